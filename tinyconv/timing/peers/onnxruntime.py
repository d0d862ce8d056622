"""The peer "onnxruntime": the file of `tinyconv export --to onnx` in ONNX Runtime.

Inference only.
"""

from tinyconv.timing.exported import Exported


class Peer(Exported):
    kind = "ONNX Runtime"
    library = "onnxruntime"
    format = "onnx"
