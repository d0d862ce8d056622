"""Whether the outputs of a model are logits or probabilities, found with a few images."""

from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax

from tinyconv import terminal
from tinyconv.errors import InputError
from tinyconv.graph import source

SLACK = {"float32": 1e-3, "float64": 1e-3}  # allowed difference of the sum of probabilities from 1
SLACK_16_BITS = 1e-2


@terminal.without_misleading_logs()
def are_probabilities(model: keras.Model, file: Path) -> bool:
    """Whether the outputs of `model` are probabilities: non-negative, with a sum of 1.

    The outputs for eight images decide. The outputs of a linear Dense layer at the end are always
    logits, because they are unbounded.

    Args:
        model: a functional model from images of one size to a row of numbers for each.
        file: the file of the model, for messages.

    Raises:
        InputError: the outputs are NaN, a single number or independent sigmoids; or the model
            cannot be run.
    """
    try:
        rows = predict_batch(model, images(*model.input_shape[1:3]))
    except Exception as error:  # custom layers raise errors of any type
        raise InputError(f"{file} opens, but cannot be run on a batch of images.") from error
    rows = rows[~np.isnan(rows).any(axis=1)]
    if not len(rows):
        raise InputError(f"{file} puts out NaN for every image; train it again.")
    if rows.shape[1] == 1:
        raise InputError(
            f"{file} has one output; each class needs an output of its own, also where there are "
            "two classes: end in Dense(2)."
        )
    if ends_in_linear_dense(model):
        return False
    slack = SLACK.get(model.output.dtype, SLACK_16_BITS)
    if (rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= slack).all():
        return True
    if ((rows >= 0) & (rows <= 1)).all():
        raise InputError(
            f"{file} puts out numbers in 0..1 that do not sum to one, as independent sigmoids do; "
            "one class per image needs logits or a softmax."
        )
    return False


def predict_batch(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The outputs (images, classes) of a model for one batch, in float32.

    TensorFlow runs the layers one by one, because the tracing of a graph takes longer than a batch.
    """
    if keras.backend.backend() == "tensorflow":
        return np.asarray(model(images, training=False), np.float32)
    return np.asarray(model.predict_on_batch(images), np.float32)


def to_probabilities(rows: np.ndarray, probabilities: bool) -> np.ndarray:
    """The probabilities of outputs (..., classes).

    Args:
        rows: the outputs.
        probabilities: whether the outputs are probabilities already, rather than logits.
    """
    return rows if probabilities else softmax(rows, axis=-1)


def images(height: int, width: int) -> np.ndarray:
    """Eight dissimilar images (8, height, width, 3) in float32, in 0..255.

    Two images are nearly black. They do not saturate a model that expects images in 0..1.
    """
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(height, width, 3))
    grid = rng.uniform(size=(4, 4, 3))
    patches = grid[np.arange(height) * 4 // height][:, np.arange(width) * 4 // width]
    ramp = np.broadcast_to(np.linspace(0, 1, width)[:, None] * [1, 0.5, 0], noise.shape)
    black, white = np.zeros_like(noise), np.ones_like(noise)
    kinds = (black, white, noise, noise > 0.5, patches, ramp, noise / 64, patches / 255)
    return np.stack([255.0 * kind for kind in kinds]).astype(np.float32)


def ends_in_linear_dense(model: keras.Model) -> bool:
    """Whether the outputs of `model` are those of a Dense layer without an activation."""
    linear = keras.activations.linear
    tensor = model.output
    while True:
        operation = source(tensor).operation
        if isinstance(operation, keras.Model):
            tensor = operation.outputs[tensor._keras_history.tensor_index]
        elif isinstance(operation, keras.layers.Activation) and operation.activation is linear:
            tensor = source(tensor).input_tensors[0]
        else:
            return isinstance(operation, keras.layers.Dense) and operation.activation is linear
