"""A fused block as one differentiable operation of TensorFlow, on all cores."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from tinyconv.devices import cores

IMAGES = 8  # that a thread takes at a time; fixed, so that sums do not depend on the cores


@cache
def _pool() -> ThreadPoolExecutor:
    import scipy.linalg  # noqa: F401  its BLAS is the one that Numba calls
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")  # the threads are ours
    return ThreadPoolExecutor(cores())


def split(part, count):
    """The results of `part` on slices of `count` images, in their order."""
    pieces = [slice(i, min(i + IMAGES, count)) for i in range(0, count, IMAGES)]
    return list(_pool().map(part, pieces))


def _seed(state) -> np.uint32:
    first, second = np.asarray(state).astype(np.uint64)
    mixed = first * np.uint64(0x9E3779B9) ^ second * np.uint64(0x85EBCA6B)
    return np.uint32(mixed >> np.uint64(16) & np.uint64(0xFFFFFFFF))


def _forward(block, dropout):
    def function(seed, x, *weights):
        return block.forward(split, _seed(seed), dropout, x, *weights)

    return function


def _backward(block, dropout):
    def function(seed, dy, x, *weights):
        gradients = block.backward(split, _seed(seed), dropout, dy, x, *weights)
        return tuple(
            np.ascontiguousarray(g, np.float32).reshape(np.shape(w))
            for g, w in zip(gradients, (x, *weights), strict=True)
        )

    return function


def fused(block, seed, dropout, shape, *arrays):
    """`block` on images and its weights, to `shape`; with `dropout`, by the two numbers `seed`."""
    import tensorflow as tf

    @tf.custom_gradient
    def operation(*arrays):
        y = tf.numpy_function(_forward(block, dropout), [seed, *arrays], tf.float32)
        y.set_shape(shape)

        def gradient(dy):
            types = [tf.float32] * len(arrays)
            gradients = tf.numpy_function(_backward(block, dropout), [seed, dy, *arrays], types)
            for g, array in zip(gradients, arrays, strict=True):
                g.set_shape(array.shape)
            return gradients

        return y, gradient

    return operation(*(tf.convert_to_tensor(a) for a in arrays))
