"""The fused downscale of `tiniest`, forward and backward: a grouped 4x4 convolution of stride 2.

Shapes: an image (H, W, G * I) becomes (H / 2, W / 2, G * O), for G groups of I input channels and O
output channels. The padded image is stored as (H + 2, W + 2, I, G). The groups are the last axis,
so that a vector instruction computes all groups at once.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from tinyconv.fast.block import Block
from tinyconv.fast.kernels import F, compiled
from tinyconv.fast.tiles import LANES, tile
from tinyconv.graph import part

PIXELS_A_TILE = 4


class Weights(NamedTuple):
    """The weights, or their gradients. For the kernels, they are (4, 4, I, O, G) and (O, G)."""

    kernel: Any
    bias: Any


@compiled
def place(image, padded):
    """Copy an image (H, W, G * I) to the middle of `padded` (H + 2, W + 2, I, G)."""
    inner, groups = padded.shape[2:]
    for h in range(image.shape[0]):
        for w in range(image.shape[1]):
            for i in range(inner):
                for g in range(groups):
                    padded[h + 1, w + 1, i, g] = image[h, w, g * inner + i]


def _convolution(pixels):
    """A tile of the convolution. Strides: (pixel,), (row, pixel), (row of taps, tap)."""
    taps = [(a, b) for a in range(4) for b in range(4)]
    products = [(p, (a, b + 2 * p), (a, b)) for a, b in taps for p in range(pixels)]
    return tile([(p,) for p in range(pixels)], products)


several, one = _convolution(PIXELS_A_TILE), _convolution(1)


@compiled
def forward(x, weights, y):
    """Write the output for x to y (B, H / 2, W / 2, G * O)."""
    kernel, bias = weights.kernel, weights.bias
    inner, outer, groups = kernel.shape[2:]
    height, width = y.shape[1:3]
    padded = np.zeros((x.shape[1] + 2, x.shape[2] + 2, inner, groups), F)
    totals = np.empty((width, outer, groups), F)
    source, factors, out = padded.reshape(-1), kernel.reshape(-1), totals.reshape(-1)
    pixel, tap, each = inner * groups, inner * outer * groups, outer * groups
    outs, sources, kernels = (each,), (padded.shape[1] * pixel, pixel), (4 * tap, tap)
    tiled = width - width % PIXELS_A_TILE
    for image in range(x.shape[0]):
        place(x[image], padded)
        for h in range(height):
            totals[:] = bias
            for i in range(0, pixel, groups):
                for of in range(0, each, LANES):
                    g, k = of % groups, i * outer + of
                    for w in range(0, tiled, PIXELS_A_TILE):
                        at, to = 2 * (h * padded.shape[1] + w) * pixel + i + g, w * each + of
                        several(out, to, out, to, source, at, factors, k, outs, sources, kernels)
                    for w in range(tiled, width):
                        at, to = 2 * (h * padded.shape[1] + w) * pixel + i + g, w * each + of
                        one(out, to, out, to, source, at, factors, k, outs, sources, kernels)
            for w in range(width):
                for o in range(outer):
                    for g in range(groups):
                        y[image, h, w, g * outer + o] = totals[w, o, g]


@compiled
def backward(x, kernel, dy, dx, sums):
    """Write the gradient of x to dx, and add the gradients of the weights to `sums`."""
    dkernel, dbias = sums.kernel, sums.bias
    inner, outer, groups = kernel.shape[2:]
    padded = np.zeros((x.shape[1] + 2, x.shape[2] + 2, inner, groups), F)
    back = np.empty_like(padded)
    gradient = np.empty((outer, groups), F)
    for image in range(x.shape[0]):
        place(x[image], padded)
        back[:] = F(0)
        for h in range(dy.shape[1]):
            for w in range(dy.shape[2]):
                for o in range(outer):
                    for g in range(groups):
                        gradient[o, g] = dy[image, h, w, g * outer + o]
                        dbias[o, g] += gradient[o, g]
                for a in range(4):
                    for b in range(4):
                        for i in range(inner):
                            source = padded[2 * h + a, 2 * w + b, i]
                            target = back[2 * h + a, 2 * w + b, i]
                            for o in range(outer):
                                for g in range(groups):
                                    target[g] += gradient[o, g] * kernel[a, b, i, o, g]
                                    dkernel[a, b, i, o, g] += gradient[o, g] * source[g]
        for h in range(x.shape[1]):
            for w in range(x.shape[2]):
                for i in range(inner):
                    for g in range(groups):
                        dx[image, h, w, g * inner + i] = back[h + 1, w + 1, i, g]


PATTERN = {
    "pad": part(keras.layers.ZeroPadding2D, padding=1),
    "conv": part(
        keras.layers.Conv2D,
        "pad",
        free="filters groups",
        filters=1,
        kernel_size=4,
        strides=2,
    ),
}


class Grouped(Block):
    """The fused downscale of `tiniest`: zero padding by one pixel, and the convolution."""

    pattern = PATTERN
    weights = Weights(kernel=("conv", "kernel"), bias=("conv", "bias"))

    def __init__(self, layers):
        self.groups = layers["conv"].groups

    @staticmethod
    def fits(layers, shape):
        return layers["conv"].groups % LANES == 0

    def output_shape(self, shape, weights):
        batch, height, width, _ = shape
        return batch, height // 2, width // 2, len(weights.bias)

    def prepare(self, shape, weights):
        """The kernel (4, 4, I, G * O) as (4, 4, I, O, G), and the bias (G * O,) as (O, G)."""
        kernel, bias = weights
        groups = kernel.reshape(*kernel.shape[:3], self.groups, -1)
        return Weights(
            kernel=np.ascontiguousarray(groups.swapaxes(-1, -2)),
            bias=np.ascontiguousarray(bias.reshape(self.groups, -1).T),
        )

    def forward(self, draws, x, prepared, y):
        forward(x, prepared, y)

    def backward(self, draws, dy, x, prepared, dx):
        sums = Weights(*map(np.zeros_like, prepared))
        backward(x, prepared.kernel, dy, dx, sums)
        return sums

    def gradients(self, sums, weights):
        return Weights(
            kernel=sums.kernel.swapaxes(-1, -2).reshape(weights.kernel.shape),
            bias=sums.bias.T.reshape(-1),
        )
