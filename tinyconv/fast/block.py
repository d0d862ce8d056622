"""The base class of fused blocks. Each block has a module of its own."""

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

    The argument `weights` of a method is arrays with the shapes of Keras, in the order of the
    attribute `weights`. The argument `draws` is the index of the first image in its batch, the seed
    of the dropout in this batch, and whether dropout is active.

    Args:
        layers: the layers by role. They match `pattern`, and `fits` is true for them.

    Attributes:
        pattern: the layers by role, as for `tinyconv.graph`. The output of the block is that of the
            last role.
        weights: (role, name of the variable) of each weight.
    """

    pattern: dict[str, Part]
    weights: tuple[tuple[str, str], ...]

    def __init__(self, layers: dict):
        """Read the settings of the layers."""

    @staticmethod
    def fits(layers: dict, shape: tuple[int, ...]) -> bool:
        """Whether the block supports layers that match its pattern, on images of `shape` (H, W, C).

        A subclass checks what a pattern cannot express.
        """
        return True

    def output_shape(self, shape: tuple[int, ...], *weights: np.ndarray) -> tuple[int, ...]:
        """The shape of the output for images of `shape` (B, H, W, C)."""
        return shape

    def prepare(self, shape: tuple[int, ...], *weights: np.ndarray) -> Arrays:
        """Convert the weights for `forward`, once per batch of images of `shape` (B, H, W, C)."""
        return weights

    def forward(self, draws: tuple, x: np.ndarray, prepared: Arrays, y: np.ndarray) -> None:
        """Compute the output for the images `x`, and write it to `y`."""
        raise NotImplementedError

    def prepare_backward(self, shape: tuple[int, ...], *weights: np.ndarray) -> Arrays:
        """Convert the weights for `backward`, once per batch of images of `shape` (B, H, W, C)."""
        return self.prepare(shape, *weights)

    def backward(
        self, draws: tuple, dy: np.ndarray, x: np.ndarray, prepared: Arrays, dx: np.ndarray
    ) -> Arrays:
        """Write the gradient of the images to `dx`.

        Returns:
            Arrays for `gradients`, which the caller sums over all images of the batch.
        """
        raise NotImplementedError

    def gradients(self, sums: Arrays, *weights: np.ndarray) -> Arrays:
        """The gradients of the weights, from the sums over all images of the batch."""
        return sums
