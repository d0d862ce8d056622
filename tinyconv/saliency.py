"""Which parts of an image the answer of a model depends on.

Occlusion (https://arxiv.org/abs/1311.2901): a patch of the image is hidden, and the probability of
a class is computed again. Unlike Grad-CAM, this needs no gradients and no map of features. It thus
works for every model, also for a vision transformer and under JAX.
"""

import keras
import numpy as np

from tinyconv.outputs import to_probabilities

BATCH = 64
PARTS, STEPS = 4, 4  # a patch is a quarter of each side, and moves by a quarter of itself


def occlusion(
    model: keras.Model, image: np.ndarray, index: int, probabilities: bool = False
) -> np.ndarray:
    """How much the probability of a class falls where the image is hidden.

    Args:
        model: the model.
        image: raw RGB, (height, width, 3).
        index: the class.
        probabilities: whether the outputs of the model are probabilities rather than logits.

    Returns:
        The fall of the probability for each pixel, (height, width), -1 to 1. It is the mean over
        all patches that hide the pixel. A patch has the mean colour of the image.
    """
    height, width, _ = image.shape
    windows = [
        (slice(max(top, 0), top + tall), slice(max(left, 0), left + wide))
        for top, tall in _starts(height)
        for left, wide in _starts(width)
    ]
    colour = image.mean(axis=(0, 1))

    def answers(part: list) -> np.ndarray:
        hidden = np.repeat(image[None].astype(np.float32), BATCH, axis=0)
        for one, window in zip(hidden, part, strict=False):
            one[window] = colour
        outputs = np.asarray(model.predict_on_batch(hidden), np.float32)[: len(part)]
        return to_probabilities(outputs, probabilities)[:, index]

    nothing = (slice(0, 0), slice(0, 0))
    every = [nothing, *windows]
    shares = [answers(every[start : start + BATCH]) for start in range(0, len(every), BATCH)]
    whole, *rest = np.concatenate(shares)
    fall, count = np.zeros((2, height, width))
    for window, share in zip(windows, rest, strict=True):
        fall[window] += whole - share
        count[window] += 1
    return fall / count


def _starts(side: int) -> list[tuple[int, int]]:
    """The first pixel of each patch along a side, and its length. Some patches begin outside."""
    length = max(1, round(side / PARTS))
    step = max(1, round(length / STEPS))
    return [(start, length) for start in range(step - length, side, step)]
