"""What a fused block is; the arithmetic of each is in a module of its own."""

from typing import Any

import numpy as np

Arrays = tuple[Any, ...]


def over_channels(norm: Any) -> bool:
    """Whether a layer is a layer norm over the channels of images, with gamma and beta."""
    return bool(
        type(norm).__name__ == "LayerNormalization"
        and len(norm.input.shape) == 4
        and norm.axis in (-1, 3, [-1], [3])
        and norm.center
        and norm.scale
    )


def linear(*layers: Any) -> bool:
    """Whether layers add a bias to their products and do nothing else."""
    return all(layer.use_bias and layer.activation.__name__ == "linear" for layer in layers)


class Block:
    """Layers of a net as one function of a few images (B, H, W, C) in float32, on one thread.

    `roles` are the suffixes of the layers' names, from first to last. `weights` says which arrays
    the methods take, in which order; they are shaped as Keras has them. `draws` are the index of
    the first image in its batch, the seed of the batch's dropout, and whether there is any.
    """

    roles: tuple[str, ...]
    weights: tuple[tuple[str, str], ...]

    def __init__(self, layers: dict):
        """Of `layers` by role, which fit."""

    @staticmethod
    def fits(layers: dict) -> bool:
        """Whether layers of these roles are exactly what is fused here."""
        raise NotImplementedError

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
