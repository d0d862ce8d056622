"""The peer "openvino": the folder of `tinyconv export --to openvino`. Inference only.

The precision is OpenVINO's default for the processor. The tables state it.
"""

from tinyconv.timing.exported import Exported


class Peer(Exported):
    kind = "OpenVINO"
    library = "openvino"
    format = "openvino"

    def build(self) -> None:
        import openvino

        precision = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
        self.kind, self.options = f"OpenVINO {precision}", {"precision": precision}
        super().build()
