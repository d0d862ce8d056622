"""The fused downscale of `cifar10_tiny`, forward and backward.

The block is LayerNorm(MaxPool2x2(x @ w + bias)). The functions compute a few rows at a time. The
input of the pool therefore stays in the cache. The backward pass recomputes it.

Shapes: an image (H, W, C) becomes (H / 2, W / 2, D). H and W are even.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from tinyconv.fast.block import Block, dense, layer_norm
from tinyconv.fast.kernels import PIXELS, F, compiled, normalize, normalize_gradient
from tinyconv.graph import INPUT, part


class Weights(NamedTuple):
    """The weights, or their gradients."""

    w: Any
    bias: Any
    gamma: Any
    beta: Any


class BackwardWeights(NamedTuple):
    """The weights that `backward` needs. `back` is w, transposed."""

    w: Any
    back: Any
    bias: Any
    gamma: Any


@compiled
def pool(wide, width, bias, rows):
    """Write the 2x2 max pool of `wide`, plus `bias`, to `rows`.

    `wide` (P, D) holds a few rows of an image. `width` is the width of the image.
    """
    half = width // 2
    for p in range(rows.shape[0]):
        first = 2 * width * (p // half) + 2 * (p % half)
        a, b, c, d = wide[first], wide[first + 1], wide[first + width], wide[first + width + 1]
        row = rows[p]
        for e in range(row.shape[0]):
            row[e] = max(max(a[e], b[e]), max(c[e], d[e])) + bias[e]


@compiled
def pool_gradient(wide, width, rows):
    """Replace `wide` by its gradient. `rows` is the gradient of the pool's output.

    The first maximum of each 2x2 pixels gets the whole gradient.
    """
    half = width // 2
    none = F(0)
    for p in range(rows.shape[0]):
        first = 2 * width * (p // half) + 2 * (p % half)
        a, b, c, d = wide[first], wide[first + 1], wide[first + width], wide[first + width + 1]
        row = rows[p]
        for e in range(row.shape[0]):
            most = max(max(a[e], b[e]), max(c[e], d[e]))
            in_a = a[e] == most
            in_b = (b[e] == most) & (not in_a)
            in_c = (c[e] == most) & (not in_a) & (not in_b)
            a[e] = row[e] if in_a else none
            b[e] = row[e] if in_b else none
            c[e] = row[e] if in_c else none
            d[e] = none if in_a | in_b | in_c else row[e]


@compiled
def forward(x, epsilon, weights, y):
    """Write the output for x to y (B, H / 2, W / 2, D)."""
    w, gamma, beta = weights.w, weights.gamma, weights.beta
    height, width, channels = x.shape[1:]
    step = 2 * max(1, PIXELS // (2 * width))
    wides = np.empty((step * width, w.shape[1]), F)
    inverse = np.empty(step * width // 4, F)
    for image in range(x.shape[0]):
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            source = x[image, top : top + step].reshape(pixels, channels)
            rows = y[image, top // 2 : (top + step) // 2].reshape(pixels // 4, w.shape[1])
            wide = wides[:pixels]
            np.dot(source, w, wide)
            pool(wide, width, weights.bias, rows)
            normalize(rows, inverse, epsilon)
            for p in range(rows.shape[0]):
                for e in range(rows.shape[1]):
                    rows[p, e] = rows[p, e] * gamma[e] + beta[e]


@compiled
def backward(x, epsilon, weights, dy, dx, sums):
    """Write the gradient of x to dx, and add the gradients of the weights to `sums`."""
    w, gamma, dw = weights.w, weights.gamma, sums.w
    height, width, channels = x.shape[1:]
    step = 2 * max(1, PIXELS // (2 * width))
    wides = np.empty((step * width, w.shape[1]), F)
    normals = np.empty((step * width // 4, w.shape[1]), F)
    gradients = np.empty((step * width // 4, w.shape[1]), F)
    inverse = np.empty(step * width // 4, F)
    product = np.empty(w.shape, F)
    for image in range(x.shape[0]):
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            source = x[image, top : top + step].reshape(pixels, channels)
            target = dx[image, top : top + step].reshape(pixels, channels)
            given = dy[image, top // 2 : (top + step) // 2].reshape(pixels // 4, w.shape[1])
            wide, normal, gradient = (
                wides[:pixels],
                normals[: pixels // 4],
                gradients[: pixels // 4],
            )
            np.dot(source, w, wide)
            pool(wide, width, weights.bias, normal)
            normalize(normal, inverse, epsilon)
            for p in range(pixels // 4):
                for e in range(w.shape[1]):
                    sums.gamma[e] += given[p, e] * normal[p, e]
                    sums.beta[e] += given[p, e]
                    gradient[p, e] = given[p, e] * gamma[e]
                normalize_gradient(gradient[p], normal[p], inverse[p])
                for e in range(w.shape[1]):
                    sums.bias[e] += gradient[p, e]
            pool_gradient(wide, width, gradient)
            np.dot(source.T, wide, product)
            dw += product
            np.dot(wide, weights.back, target)


PATTERN = {
    "dense": dense(INPUT),
    "pool": part(keras.layers.MaxPooling2D, "dense"),
    "norm": layer_norm("pool"),
}


class Downscale(Block):
    """The fused downscale: dense layer, 2x2 max pool and layer norm."""

    pattern = PATTERN
    weights = Weights(
        w=("dense", "kernel"),
        bias=("dense", "bias"),
        gamma=("norm", "gamma"),
        beta=("norm", "beta"),
    )

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        height, width, _ = shape
        # The layer norm of a single channel is zero except for rounding.
        return height % 2 == width % 2 == 0 and layers["dense"].units > 1

    def output_shape(self, shape, weights):
        batch, height, width, _ = shape
        return batch, height // 2, width // 2, weights.w.shape[1]

    def forward(self, draws, x, prepared, y):
        forward(x, self.epsilon, prepared, y)

    def prepare_backward(self, shape, weights):
        w, bias, gamma, _ = weights
        return BackwardWeights(w=w, back=np.ascontiguousarray(w.T), bias=bias, gamma=gamma)

    def backward(self, draws, dy, x, prepared, dx):
        w, _, bias, gamma = prepared
        sums = Weights(*map(np.zeros_like, (w, bias, gamma, gamma)))
        backward(x, self.epsilon, prepared, dy, dx, sums)
        return sums
