"""Trained models for phones, browsers and C++: written, run, compared with Keras, or refused.

What is exported is a model of the same function in other layers, where exporters or the runtimes
do a layer badly:

- XNNPACK, which runs LiteRT on a CPU, has fast depthwise kernels for one output per channel alone.
  A depthwise convolution with m outputs per channel becomes one over m copies of its input; the
  channels come out in another order, and the layers up to the next Dense follow.
- ONNX gets exact GELU by erf, and a grouped convolution as one convolution per group: Keras 3.15
  writes files of both that ONNX Runtime refuses or answers wrongly.
"""

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tinyconv import atomic
from tinyconv.data import Split
from tinyconv.errors import InputError, unknown

ENDINGS = {"litert": ".tflite", "litert-int8": "-int8.tflite", "onnx": ".onnx", "savedmodel": ""}
CALIBRATION = 500  # images that tell int8 the range of each activation
CALLS = 100  # with one image each, to time
FLOAT_TOLERANCE = 1e-4  # of the largest logit
INT8_AGREEMENT = 0.9  # of the images in the same class


@dataclass(frozen=True)
class Check:
    """How a written file answered: logits (N, classes), beside those of Keras and the labels (N,).

    `labels` are None where the images have none; `latency` is in seconds for one image on one
    thread, the median of `CALLS`; `size` is in bytes.
    """

    logits: np.ndarray
    keras: np.ndarray
    labels: np.ndarray | None
    latency: float
    size: int

    @property
    def same(self) -> float:
        """The share of images in the same class as by Keras."""
        return float((self.logits.argmax(-1) == self.keras.argmax(-1)).mean())

    @property
    def difference(self) -> float:
        """The largest difference of two logits, as a share of Keras' largest logit."""
        return float(np.abs(self.logits - self.keras).max() / np.abs(self.keras).max())

    def text(self, images: str) -> str:
        """All of it for a terminal."""
        lines = [
            f"{self.size / 1000:,.0f} KB, one image in {1000 * self.latency:.2f} ms on one thread",
            f"same class as Keras: {self.same:.2%} of {len(self.logits):,} {images}",
            f"logits off by at most {self.difference:.1e} of the largest",
        ]
        if self.labels is not None:
            ours, theirs = ((x.argmax(-1) == self.labels).mean() for x in (self.logits, self.keras))
            lines.append(f"accuracy {ours:.2%}, in Keras {theirs:.2%}")
        return "\n".join(f"  {line}" for line in lines)


def export(
    model: keras.Model,
    target: str,
    path: Path,
    images: np.ndarray,
    labels: np.ndarray | None,
    calibration: np.ndarray,
) -> Check:
    """Write `model` as `target` and run what was written.

    Args:
        model: from images to logits, without custom layers.
        target: a key of `ENDINGS`.
        path: the file to write, or the folder of a savedmodel, which must not be there yet.
        images: to compare with Keras, (N, height, width, 3) in uint8.
        labels: their classes (N,), or None.
        calibration: images as `images`, for int8 to see the range of each activation.

    Raises:
        InputError: it cannot be written, or the file answers otherwise than Keras. Nothing is then
            left of it.
    """
    check_target(target, path)
    write, load = _WRITERS[target], _RUNTIMES[target]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        written = Path(folder, path.name)
        try:
            write(model, written, calibration)
        except Exception as error:
            raise InputError(
                f"{model.name} cannot be written as {target} ({type(error).__name__}: "
                f"{str(error)[:200]})."
            ) from error
        check = _check(load, written, model, images, labels)
        wrong = check.same < INT8_AGREEMENT if "int8" in target else check.difference > FLOAT_TOLERANCE
        if wrong or not np.isfinite(check.logits).all():
            raise InputError(
                f"{path.name} was written and removed, as it disagrees with Keras: "
                f"{check.same:.2%} of {len(images)} images in the same class, logits off by "
                f"{check.difference:.1e} of the largest."
            )
        written.rename(path)
    return check


def check_target(target: str, path: Path) -> None:
    """Make sure that `target` can be written to `path` here.

    Raises:
        InputError: it is unknown, or needs a package that is not here, or the path is wrong.
    """
    if target not in ENDINGS:
        raise unknown("format", target, ENDINGS)
    if keras.backend.backend() != "tensorflow":
        raise InputError("Exports are made by TensorFlow; unset KERAS_BACKEND.")
    needed = ("onnx", "onnxruntime", "tf2onnx") if target == "onnx" else ()
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise InputError(f"ONNX needs {missing[0]}: pip install 'tinyconv[export]'.")
    ending = Path(ENDINGS[target]).suffix or ENDINGS[target][-7:]
    if path.suffix != ending:
        raise InputError(f"{path} must end in {ending}." if ending else f"{path} is a folder.")
    if target == "savedmodel" and path.exists():
        raise InputError(f"{path} is there already; remove it or choose another --out.")
    atomic.check_writable(path.parent)
