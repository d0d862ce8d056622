"""The fused layer norm over the channels, forward and backward, in one pass over each pixel."""

from typing import Any, NamedTuple

import numpy as np

from tinyconv.fast.block import Block, layer_norm
from tinyconv.fast.kernels import F, compiled, normalize, normalize_gradient
from tinyconv.graph import INPUT


class Weights(NamedTuple):
    gamma: Any
    beta: Any


@compiled
def forward(rows, epsilon, weights, y):
    inverse = np.empty(1, F)
    for p in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y[p, c] = rows[p, c]
        normalize(y[p : p + 1], inverse, epsilon)
        for c in range(rows.shape[1]):
            y[p, c] = y[p, c] * weights.gamma[c] + weights.beta[c]


@compiled
def backward(rows, epsilon, weights, dy, dx, sums):
    inverse = np.empty(1, F)
    normal = np.empty((1, rows.shape[1]), F)
    for p in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            normal[0, c] = rows[p, c]
        normalize(normal, inverse, epsilon)
        for c in range(rows.shape[1]):
            sums.gamma[c] += dy[p, c] * normal[0, c]
            sums.beta[c] += dy[p, c]
            dx[p, c] = dy[p, c] * weights.gamma[c]
        normalize_gradient(dx[p], normal[0], inverse[0])


PATTERN = {"norm": layer_norm(INPUT)}


class Norm(Block):
    """The fused layer norm of images."""

    pattern = PATTERN
    weights = Weights(gamma=("norm", "gamma"), beta=("norm", "beta"))

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        return shape[-1] > 1  # the norm of a single channel is zero except for rounding

    def forward(self, draws, x, prepared, y):
        rows, out = (a.reshape(-1, a.shape[-1]) for a in (x, y))
        forward(rows, self.epsilon, prepared, out)

    def backward(self, draws, dy, x, prepared, dx):
        sums = Weights(*map(np.zeros_like, prepared))
        rows, back, out = (a.reshape(-1, a.shape[-1]) for a in (x, dy, dx))
        backward(rows, self.epsilon, prepared, back, out, sums)
        return sums
