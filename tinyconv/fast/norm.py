"""The fused layer norm over the channels, forward and backward, in one pass over each pixel."""

import numpy as np

from tinyconv.fast.block import Block, layer_norm
from tinyconv.fast.kernels import F, compiled, normalize, normalize_gradient
from tinyconv.graph import INPUT


@compiled
def forward(rows, epsilon, gamma, beta, y):
    inverse = np.empty(1, F)
    for p in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y[p, c] = rows[p, c]
        normalize(y[p : p + 1], inverse, epsilon)
        for c in range(rows.shape[1]):
            y[p, c] = y[p, c] * gamma[c] + beta[c]


@compiled
def backward(rows, epsilon, gamma, dy, dx, dgamma, dbeta):
    inverse = np.empty(1, F)
    normal = np.empty((1, rows.shape[1]), F)
    for p in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            normal[0, c] = rows[p, c]
        normalize(normal, inverse, epsilon)
        for c in range(rows.shape[1]):
            dgamma[c] += dy[p, c] * normal[0, c]
            dbeta[c] += dy[p, c]
            dx[p, c] = dy[p, c] * gamma[c]
        normalize_gradient(dx[p], normal[0], inverse[0])


PATTERN = {"norm": layer_norm(INPUT)}


class Norm(Block):
    """The fused layer norm of images."""

    pattern = PATTERN
    weights = (("norm", "gamma"), ("norm", "beta"))

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        return shape[-1] > 1  # a norm of one channel is rounding noise

    def forward(self, draws, x, prepared, y):
        rows, out = (a.reshape(-1, a.shape[-1]) for a in (x, y))
        forward(rows, self.epsilon, *prepared, out)

    def prepare_backward(self, shape, gamma, beta):
        return (gamma,)

    def backward(self, draws, dy, x, prepared, dx):
        sums = [np.zeros_like(prepared[0]) for _ in ("gamma", "beta")]
        rows, back, out = (a.reshape(-1, a.shape[-1]) for a in (x, dy, dx))
        backward(rows, self.epsilon, *prepared, back, out, *sums)
        return sums
