"""The base class of fused blocks. Each block has a module of its own."""

from typing import Any, NamedTuple

import keras
import numpy as np

from tinyconv.graph import Part, part

Arrays = tuple[Any, ...]  # a NamedTuple of arrays


class Draws(NamedTuple):
    """The random numbers of a block's dropout.

    Args:
        first: the index of the first image in its batch.
        seed: the seed of the batch, a np.uint32.
        active: whether dropout is active.
    """

    first: int
    seed: Any
    active: bool


def dense(source: str) -> Part:
    """A Dense layer with a bias and without an activation."""
    return part(keras.layers.Dense, source, free="units", units=1)


def layer_norm(source: str) -> Part:
    """A layer norm over the channels, with gamma and beta."""
    return part(keras.layers.LayerNormalization, source, free="epsilon")


class Block:
    """Computes several layers of a net as one function, on one thread.

    The input is a few images of a batch, (B, H, W, C) in float32.

    Every group of arrays is a NamedTuple. The argument `weights` of a method has the type of the
    attribute `weights`, and the shapes of Keras.

    Args:
        layers: the layers by role. They match `pattern`, and `fits` returns true for them.

    Attributes:
        pattern: a pattern for `tinyconv.graph`. The last role computes the output of the block.
        weights: (role, name of the variable) of each weight, as a NamedTuple.
    """

    pattern: dict[str, Part]
    weights: Any

    def __init__(self, layers: dict):
        """Read the settings of the layers."""

    @staticmethod
    def fits(layers: dict, shape: tuple[int, ...]) -> bool:
        """Whether the block supports layers that match its pattern, on images of `shape` (H, W, C).

        A subclass checks what a pattern cannot express.
        """
        return True

    def output_shape(self, shape: tuple[int, ...], weights: Any) -> tuple[int, ...]:
        """The shape of the output. `shape` (B, H, W, C) is that of the input."""
        return shape

    def prepare(self, shape: tuple[int, ...], weights: Any) -> Arrays:
        """Convert the weights for `forward`, once per batch of images of `shape` (B, H, W, C)."""
        return weights

    def forward(self, draws: Draws, x: np.ndarray, prepared: Arrays, y: np.ndarray) -> None:
        """Compute the output for the images `x`, and write it to `y`."""
        raise NotImplementedError

    def prepare_backward(self, shape: tuple[int, ...], weights: Any) -> Arrays:
        """Convert the weights for `backward`, once per batch of images of `shape` (B, H, W, C)."""
        return self.prepare(shape, weights)

    def backward(
        self, draws: Draws, dy: np.ndarray, x: np.ndarray, prepared: Arrays, dx: np.ndarray
    ) -> Arrays:
        """Write the gradient of the images to `dx`.

        Returns:
            Arrays for `gradients`, which the caller sums over all images of the batch.
        """
        raise NotImplementedError

    def gradients(self, sums: Any, weights: Any) -> Arrays:
        """The gradients of the weights, from the sums over all images of the batch."""
        return sums
