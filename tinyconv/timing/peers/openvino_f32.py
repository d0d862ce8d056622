"""The peer "openvino-f32": the folder of `tinyconv export --to openvino` in float32.

Inference only.
"""

from tinyconv.timing.exported import Exported


class Peer(Exported):
    kind = "OpenVINO f32"
    library = "openvino"
    format = "openvino"
