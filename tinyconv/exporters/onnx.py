"""ONNX, run by ONNX Runtime."""

import warnings
from pathlib import Path

import keras
import numpy as np

from tinyconv.exporters import Format, Runtime, in_batches, signature
from tinyconv.exporters.rewrite import rewritten


def _write(model: keras.Model, path: Path, images: np.ndarray) -> None:
    exported = rewritten(model, onnx=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"In the future `np\.object`")  # Keras' import of tf2onnx
        exported.export(path, format="onnx", input_signature=signature(model), verbose=False)


def _load(path: Path, threads: int = 1) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(None, {image.name: images})[0]

    return in_batches(run)


FORMATS = {"onnx": Format(".onnx", _write, _load, packages=("onnx", "onnxruntime", "tf2onnx"))}
