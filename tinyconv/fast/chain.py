"""A chain of fused blocks, as one differentiable TensorFlow operation on all cores.

A thread computes all blocks for a few images. The activations between two blocks therefore stay in
the cache. The threads wait for each other only at the end of the chain. In training, the forward
pass keeps the inputs of all blocks for the backward pass.
"""

import itertools
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from tinyconv.fast.block import Block, Draws
from tinyconv.fast.kernels import F
from tinyconv.machine import cores

IMAGES = 8  # per call of a block. A constant: sums must not depend on the number of cores
KEPT = 2  # number of forward passes whose activations are kept


@cache
def _pool() -> ThreadPoolExecutor:
    import scipy.linalg  # noqa: F401  loads the BLAS that Numba calls
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")  # the pool already uses all cores
    return ThreadPoolExecutor(cores())


def _split(part, count):
    """Call `part` with slices of `count` images on all threads, and return the results in order."""
    pieces = [slice(i, min(i + IMAGES, count)) for i in range(0, count, IMAGES)]
    return list(_pool().map(part, pieces))


def _seed(state) -> np.uint32:
    first, second = np.asarray(state).astype(np.uint64)
    mixed = first * np.uint64(0x9E3779B9) ^ second * np.uint64(0x85EBCA6B)
    return np.uint32(mixed >> np.uint64(16) & np.uint64(0xFFFFFFFF))


class Chain:
    """A chain of blocks on images (B, H, W, C).

    The methods take the images, the weights of all blocks, and the seed of each block. A seed is
    two numbers.

    Args:
        blocks: the blocks, from first to last.
        dropout: for training, whether dropout is active in each block. None for inference.
    """

    def __init__(self, blocks: list[Block], dropout: list[bool] | None):
        self.blocks, self.train = blocks, dropout is not None
        self.dropout = dropout or [False] * len(blocks)
        self.kept: OrderedDict[int, list] = OrderedDict()
        self.numbers = itertools.count()

    def _passes(self, seeds, x, weights):
        """What a pass over the chain needs.

        Returns:
            The weights of each block.
            The shape of each block's input, and last the shape of the output.
            A function that takes a slice of the batch and returns the `Draws` of each block.
        """
        weights = iter(weights)
        own = [
            block.weights._make(itertools.islice(weights, len(block.weights)))
            for block in self.blocks
        ]
        shapes = [x.shape]
        for block, arrays in zip(self.blocks, own, strict=True):
            shapes.append(block.output_shape(shapes[-1], arrays))
        seeds = [_seed(seed) for seed in seeds]

        def draws(images):
            return [Draws(images.start, *draw) for draw in zip(seeds, self.dropout, strict=True)]

        return own, shapes, draws

    def _activations(self, seeds, x, weights, keep):
        """A function that takes a slice of the batch and returns a list of outputs.

        The list holds the output of each block if `keep` is true, and otherwise only the last one.
        """
        own, shapes, draws = self._passes(seeds, x, weights)
        prepared = [
            block.prepare(shape, arrays)
            for block, shape, arrays in zip(self.blocks, shapes, own, strict=False)
        ]

        def part(images):
            value, values = x[images], []
            steps = zip(self.blocks, draws(images), prepared, shapes[1:], strict=True)
            for block, draw, arrays, shape in steps:
                y = np.empty((len(value), *shape[1:]), F)
                block.forward(draw, value, arrays, y)
                value = y
                values = [*values, y] if keep else [y]
            return values

        return part

    def forward(self, seeds, x, *weights):
        """Compute the output, and the number under which the activations are kept."""
        values = _split(self._activations(seeds, x, weights, keep=self.train), len(x))
        y, number = np.concatenate([own.pop() for own in values]), next(self.numbers)
        if self.train:
            self.kept[number] = values
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return y, np.int64(number)

    def backward(self, number, seeds, dy, x, *weights):
        """Compute the gradients of the images and of all weights.

        `number` is that of the forward pass. `dy` is the gradient of its output.
        """
        own, shapes, draws = self._passes(seeds, x, weights)
        kept = self.kept.pop(int(number), None)
        anew = None if kept else self._activations(seeds, x, weights, keep=True)
        prepared = [
            block.prepare_backward(shape, arrays)
            for block, shape, arrays in zip(self.blocks, shapes, own, strict=False)
        ]
        gradient = np.empty_like(x)

        def part(images):
            between = anew(images)[:-1] if anew else kept[images.start // IMAGES]
            values, dx, sums = [x[images], *between], dy[images], []
            steps = zip(self.blocks, draws(images), prepared, strict=True)
            for block, draw, arrays in reversed(list(steps)):
                value, given = values.pop(), dx
                dx = np.empty_like(value) if values else gradient[images]
                sums.append(block.backward(draw, given, value, arrays, dx))
            return sums[::-1]

        gradients = [
            block.gradients(sums[0]._make(map(sum, zip(*sums, strict=True))), arrays)
            for block, sums, arrays in zip(
                self.blocks, zip(*_split(part, len(x)), strict=True), own, strict=True
            )
        ]
        return [
            np.ascontiguousarray(g, F).reshape(np.shape(array))
            for g, array in zip((gradient, *sum(gradients, ())), (x, *weights), strict=True)
        ]

    def __call__(self, shape, seeds, *arrays):
        """Call the chain as a TensorFlow operation.

        Args:
            shape: the static shape of the output.
            seeds: the seeds, (blocks, 2).
            *arrays: the images and the weights of all blocks.

        Returns:
            The output, a tensor that is differentiable by all `arrays`.
        """
        import tensorflow as tf

        @tf.custom_gradient
        def operation(*arrays):
            y, number = tf.numpy_function(self.forward, [seeds, *arrays], [tf.float32, tf.int64])
            y.set_shape(shape)

            def gradient(dy):
                gradients = tf.numpy_function(
                    self.backward, [number, seeds, dy, *arrays], [tf.float32] * len(arrays)
                )
                for g, array in zip(gradients, arrays, strict=True):
                    g.set_shape(array.shape)
                return gradients

            return y, gradient

        return operation(*(tf.convert_to_tensor(array) for array in arrays))
