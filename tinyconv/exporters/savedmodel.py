"""TensorFlow's SavedModel: a folder for TensorFlow Serving."""

from pathlib import Path

import keras
import numpy as np

from tinyconv.exporters import Format, Runtime, in_batches, signature


def _write(model: keras.Model, path: Path, images: np.ndarray) -> None:
    model.export(path, format="tf_saved_model", input_signature=signature(model), verbose=False)


def _load(path: Path) -> Runtime:
    import tensorflow as tf

    served = tf.saved_model.load(path)

    def run(images: np.ndarray) -> np.ndarray:
        return served.serve(images).numpy()

    return in_batches(run)


FORMATS = {"savedmodel": Format("-savedmodel", _write, _load)}
