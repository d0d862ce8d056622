"""The peer "openvino-int8": the folder of `tinyconv export --to openvino-int8`. Inference only."""

from tinyconv.timing.exported import Exported


class Peer(Exported):
    kind = "OpenVINO int8"
    library = "openvino"
    format = "openvino-int8"
