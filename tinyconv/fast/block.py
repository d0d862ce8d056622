"""What a fused block is; the arithmetic of each is in a module of its own."""

from typing import Any

import keras
import numpy as np

from tinyconv.graph import Part, part

Arrays = tuple[Any, ...]


def dense(source: str) -> Part:
    """A Dense layer with a bias and without an activation."""
    return part(keras.layers.Dense, source, free="units", units=1)


def layer_norm(source: str) -> Part:
    """A layer norm over the channels, with gamma and beta."""
    return part(keras.layers.LayerNormalization, source, free="epsilon")


class Block:
    """Layers of a net as one function of a few images (B, H, W, C) in float32, on one thread.

    `pattern` has the layers by role, the last of which puts out what the block does. `weights` says
    which arrays the methods take, by role and in which order; they are shaped as Keras has them.
    `draws` are the index of the first image in its batch, the seed of the batch's dropout, and
    whether there is any.
    """

    pattern: dict[str, Part]
    weights: tuple[tuple[str, str], ...]

    def __init__(self, layers: dict):
        """Of `layers` by role, which fit."""

    @staticmethod
    def fits(layers: dict, shape: tuple[int, ...]) -> bool:
        """Whether layers in this pattern, on images of `shape` (H, W, C), are what is fused here:
        what a pattern cannot say."""
        return True

    def output_shape(self, shape: tuple[int, ...], *weights: np.ndarray) -> tuple[int, ...]:
        """The output's shape for images of `shape`."""
        return shape

    def prepare(self, shape: tuple[int, ...], *weights: np.ndarray) -> Arrays:
        """The weights as `forward` takes them, once for a batch of images of `shape`."""
        return weights

    def forward(self, draws: tuple, x: np.ndarray, prepared: Arrays, y: np.ndarray) -> None:
        """Fills `y`."""
        raise NotImplementedError

    def prepare_backward(self, shape: tuple[int, ...], *weights: np.ndarray) -> Arrays:
        """The weights as `backward` takes them."""
        return self.prepare(shape, *weights)

    def backward(
        self, draws: tuple, dy: np.ndarray, x: np.ndarray, prepared: Arrays, dx: np.ndarray
    ) -> Arrays:
        """Fills `dx`, and returns what adds up to the gradients of the weights."""
        raise NotImplementedError

    def gradients(self, sums: Arrays, *weights: np.ndarray) -> Arrays:
        """The gradients of the weights from the sums over all images."""
        return sums
