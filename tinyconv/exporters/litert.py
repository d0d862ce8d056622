"""LiteRT (formerly TensorFlow Lite): in float, and in 8 bits."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv.exporters import Format, Runtime
from tinyconv.exporters.rewrite import for_int8, rewritten


def _write_float(model: keras.Model, path: Path, images: np.ndarray) -> None:
    converter = _converter(rewritten(model))
    path.write_bytes(converter.convert())


def _write_int8(model: keras.Model, path: Path, images: np.ndarray) -> None:
    import tensorflow as tf

    converter = converter_int8(for_int8(rewritten(model)), images)
    converter.inference_input_type = tf.uint8
    path.write_bytes(convert_int8(converter))


def converter_int8(model: keras.Model, images: np.ndarray) -> Any:
    """A converter of `model` to operations in int8, calibrated with `images`."""
    import tensorflow as tf

    def examples() -> Iterator[list[np.ndarray]]:
        return ([image[None].astype(np.float32)] for image in images)

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter


def convert_int8(converter: Any) -> bytes:
    """Call a converter of `converter_int8`, which warns that it lacks what it computes itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        return converter.convert()


def _converter(model: keras.Model) -> Any:
    """A converter of `model` for single images, with frozen variables and built-in operations."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), [signature])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    # The second argument keeps the variables alive. A frozen function has none.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], frozen)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _load(path: Path, threads: int = 1) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        logits = np.empty((len(images), answer["shape"][-1]), np.float32)
        for i, one in enumerate(images.astype(image["dtype"])):
            interpreter.set_tensor(image["index"], one[None])
            interpreter.invoke()
            logits[i] = interpreter.get_tensor(answer["index"])[0]
        return logits

    return run


FORMATS = {
    "litert": Format(".tflite", _write_float, _load, packages=("ai_edge_litert",)),
    "litert-int8": Format(
        "-int8.tflite",
        _write_int8,
        _load,
        packages=("ai_edge_litert",),
        same=0.9,
        difference=float("inf"),
    ),
}
