"""The fused bottleneck of `cifar10_tiny`, forward and backward.

The block is x + scale * (Dropout(GELU(LayerNorm(DepthwiseConv3x3(x)))) @ w + bias). The
convolution widens C channels to M * C. The widened activations of a few rows stay in the cache. The
backward pass recomputes them.

Shapes: an image is (H, W, C). The order of the widened channels is (M, C) in this module, and
(C, M) in Keras.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from tinyconv.fast.block import Block, dense, layer_norm
from tinyconv.fast.kernels import (
    PIXELS,
    F,
    U,
    compiled,
    draw,
    erf,
    exp,
    mix,
    normalize,
    normalize_gradient,
    place,
)
from tinyconv.fast.tiles import LANES, tile
from tinyconv.graph import INPUT, part

PIXELS_A_TILE = 4
RATES = (0, 0.5)  # supported dropout rates
TAPS = [(a, b) for a in range(3) for b in range(3)]


class Weights(NamedTuple):
    """The weights, or their gradients.

    For `forward`, the channels are in the order (M, C): kernel (3, 3, M, C), bias (M, C), gamma and
    beta (M * C,), w (M * C, C), wbias (C,) and scale (C,).
    """

    kernel: Any
    bias: Any
    gamma: Any
    beta: Any
    w: Any
    wbias: Any
    scale: Any


class BackwardWeights(NamedTuple):
    """The weights for `backward`. `scaled` is w * scale, transposed: (C, M * C)."""

    kernel: Any
    bias: Any
    gamma: Any
    beta: Any
    scaled: Any


class Sums(NamedTuple):
    """What `backward` sums over all pixels, with the channels in the order (M, C).

    The first four are gradients of weights. `products` is the product of the transposed activations
    and dy. `dy` is the sum of dy. `Bottleneck.gradients` computes the other gradients from them.
    """

    kernel: Any
    bias: Any
    gamma: Any
    beta: Any
    products: Any
    dy: Any


def _convolution(pixels, shared):
    """A tile of the convolution. Strides: (pixel,), (row, pixel), (row of taps, tap)."""
    products = [(p, (a, b + p), (a, b)) for a, b in TAPS for p in range(pixels)]
    return tile([(p,) for p in range(pixels)], products, shared)


def _gradient(pixels):
    """A tile of the kernel's gradient. Strides: (row of taps, tap), (row, pixel), (pixel,)."""
    places = [(t, (a, b + p), (p,)) for p in range(pixels) for t, (a, b) in enumerate(TAPS)]
    return tile(TAPS, places)


widen, widen_one = _convolution(PIXELS_A_TILE, shared=True), _convolution(1, shared=True)
narrow, narrow_one = _convolution(PIXELS_A_TILE, shared=False), _convolution(1, shared=False)
kernel_back, kernel_back_one = _gradient(PIXELS_A_TILE), _gradient(1)


@compiled
def convolve(padded, kernel, bias, first, wide):
    """Write the depthwise convolution to `wide` (rows, W, M, C), starting at row `first`."""
    rows, width, multiplier, channels = wide.shape
    across, wider = padded.shape[1] * channels, multiplier * channels
    source, weights = padded.reshape(-1), kernel.reshape(-1)
    biases, out = bias.reshape(-1), wide.reshape(-1)
    outs, sources, kernels = (wider,), (across, channels), (3 * wider, wider)
    tiled = width - width % PIXELS_A_TILE
    for h in range(rows):
        for of in range(0, wider, LANES):
            c = of % channels
            for w in range(0, tiled, PIXELS_A_TILE):
                at, to = (first + h) * across + w * channels + c, (h * width + w) * wider + of
                widen(out, to, biases, of, source, at, weights, of, outs, sources, kernels)
            for w in range(tiled, width):
                at, to = (first + h) * across + w * channels + c, (h * width + w) * wider + of
                widen_one(out, to, biases, of, source, at, weights, of, outs, sources, kernels)


@compiled
def convolve_gradient_x(padded, kernel, dx):
    """Add the gradient of the convolution's input to dx (H, W, C).

    `padded` (H + 2, W + 2, M, C) is the padded gradient of the convolution's output.
    """
    height, width, channels = dx.shape
    wider = padded.shape[2] * channels
    across, last = padded.shape[1] * wider, 8 * wider
    source, weights, out = padded.reshape(-1), kernel.reshape(-1), dx.reshape(-1)
    outs, sources, kernels = (channels,), (across, wider), (-3 * wider, -wider)
    tiled = width - width % PIXELS_A_TILE
    for h in range(height):
        for c in range(0, channels, LANES):
            for w in range(0, tiled, PIXELS_A_TILE):
                to = (h * width + w) * channels + c
                for of in range(c, wider, channels):
                    at = h * across + w * wider + of
                    narrow(out, to, out, to, source, at, weights, last + of, outs, sources, kernels)
            for w in range(tiled, width):
                to = (h * width + w) * channels + c
                for of in range(c, wider, channels):
                    at = h * across + w * wider + of
                    narrow_one(
                        out, to, out, to, source, at, weights, last + of, outs, sources, kernels
                    )


@compiled
def convolve_gradient_kernel(x, wide, dkernel):
    """Add the gradient of the kernel to dkernel (3, 3, M, C).

    `x` is the padded image. `wide` is the padded gradient of the convolution's output.
    """
    height, width, channels = x.shape[0] - 2, x.shape[1] - 2, x.shape[2]
    wider = wide.shape[2] * channels
    source, back, out = x.reshape(-1), wide.reshape(-1), dkernel.reshape(-1)
    outs, sources = (3 * wider, wider), ((width + 2) * channels, channels)
    tiled = width - width % PIXELS_A_TILE
    for of in range(0, wider, LANES):
        c = of % channels
        for h in range(height):
            for w in range(0, tiled, PIXELS_A_TILE):
                at = (h * (width + 2) + w) * channels + c
                g = ((h + 1) * (width + 2) + w + 1) * wider + of
                kernel_back(out, of, out, of, source, at, back, g, outs, sources, (wider,))
            for w in range(tiled, width):
                at = (h * (width + 2) + w) * channels + c
                g = ((h + 1) * (width + 2) + w + 1) * wider + of
                kernel_back_one(out, of, out, of, source, at, back, g, outs, sources, (wider,))


@compiled
def activate(weights, keep, seed, dropout, normal, active):
    """Write GELU and dropout of the rows `normal` to `active`, after gamma and beta."""
    gamma, beta = weights.gamma, weights.beta
    for p in range(normal.shape[0]):
        if dropout:
            draw(keep, mix(U(seed + U(p))))
        for e in range(normal.shape[1]):
            g = normal[p, e] * gamma[e] + beta[e]
            active[p, e] = g * (F(1) + erf(g * F(0.7071067811865476))) * keep[e]


@compiled
def activate_gradient(weights, keep, seed, dropout, normal, inverse, active, wide, sums):
    """Write the activations to `active`, and replace their gradient in `wide`.

    `wide` becomes the gradient of the convolution's output.
    """
    gamma, beta = weights.gamma, weights.beta
    dgamma, dbeta, dbias = sums.gamma, sums.beta, sums.bias
    for p in range(normal.shape[0]):
        if dropout:
            draw(keep, mix(U(seed + U(p))))
        for e in range(normal.shape[1]):
            g = normal[p, e] * gamma[e] + beta[e]
            bell = exp(F(-0.5) * g * g, F(0))
            cdf = (F(1) + erf(g * F(0.7071067811865476))) * keep[e]
            active[p, e] = g * cdf
            d = (cdf + g * bell * F(0.7978845608028654) * keep[e]) * wide[p, e]
            dgamma[e] += d * normal[p, e]
            dbeta[e] += d
            wide[p, e] = d * gamma[e]
        normalize_gradient(wide[p], normal[p], inverse[p])
        for e in range(normal.shape[1]):
            dbias[e] += wide[p, e]


@compiled
def forward(x, draws, epsilon, weights, y):
    """Write the output for x to y (B, H, W, C)."""
    kernel, bias, w = weights.kernel, weights.bias, weights.w
    height, width, channels = x.shape[1:]
    wide_channels = w.shape[0]
    step = max(1, PIXELS // width)
    padded = np.zeros((height + 2, width + 2, channels), F)
    normals = np.empty((step * width, wide_channels), F)
    actives = np.empty((step * width, wide_channels), F)
    inverse = np.empty(step * width, F)
    keep = np.full(wide_channels, F(0.5))
    for image in range(x.shape[0]):
        place(x[image], padded, 1)
        drawn = mix(U(draws.seed + mix(U(draws.first + image))))
        for top in range(0, height, step):
            rows = min(step, height - top)
            normal, active = normals[: rows * width], actives[: rows * width]
            convolve(
                padded, kernel, bias, top, normal.reshape(rows, width, bias.shape[0], channels)
            )
            normalize(normal, inverse, epsilon)
            seed = mix(U(drawn + U(top)))
            activate(weights, keep, seed, draws.active, normal=normal, active=active)
            source = x[image, top : top + rows].reshape(rows * width, channels)
            target = y[image, top : top + rows].reshape(rows * width, channels)
            np.dot(active, w, target)
            for p in range(rows * width):
                for c in range(channels):
                    dense = target[p, c] + weights.wbias[c]
                    target[p, c] = source[p, c] + weights.scale[c] * dense


@compiled
def backward(x, draws, epsilon, weights, dy, dx, sums):
    """Write the gradient of x to dx, and add to `sums`."""
    kernel, bias, scaled, products = weights.kernel, weights.bias, weights.scaled, sums.products
    height, width, channels = x.shape[1:]
    multiplier, wide_channels = bias.shape[0], scaled.shape[1]
    step = max(1, PIXELS // width)
    padded = np.zeros((height + 2, width + 2, channels), F)
    backs = np.zeros((height + 2, width + 2, wide_channels), F)
    back = backs.reshape(height + 2, width + 2, multiplier, channels)
    normals = np.empty((step * width, wide_channels), F)
    actives = np.empty((step * width, wide_channels), F)
    wides = np.empty((step * width, wide_channels), F)
    product = np.empty((wide_channels, channels), F)
    inverse = np.empty(step * width, F)
    keep = np.full(wide_channels, F(0.5))
    for image in range(x.shape[0]):
        place(x[image], padded, 1)
        drawn = mix(U(draws.seed + mix(U(draws.first + image))))
        for top in range(0, height, step):
            rows = min(step, height - top)
            pixels = rows * width
            normal, active, wide = normals[:pixels], actives[:pixels], wides[:pixels]
            convolve(padded, kernel, bias, top, normal.reshape(rows, width, multiplier, channels))
            normalize(normal, inverse, epsilon)
            gradient = dy[image, top : top + rows].reshape(pixels, channels)
            np.dot(gradient, scaled, wide)
            seed = mix(U(drawn + U(top)))
            activate_gradient(
                weights,
                keep,
                seed,
                draws.active,
                normal=normal,
                inverse=inverse,
                active=active,
                wide=wide,
                sums=sums,
            )
            np.dot(active.T, gradient, product)
            products += product
            for p in range(pixels):
                for c in range(channels):
                    sums.dy[c] += gradient[p, c]
            place(wide.reshape(rows, width, wide_channels), backs[top : top + rows + 2], 1)
        convolve_gradient_kernel(padded, back, sums.kernel)
        dx[image] = dy[image]
        convolve_gradient_x(back, kernel, dx[image])


PATTERN = {
    "dwconv": part(
        keras.layers.DepthwiseConv2D, free="depth_multiplier", kernel_size=3, padding="same"
    ),
    "norm": layer_norm("dwconv"),
    "gelu": part(keras.layers.Activation, "norm", activation="gelu"),
    "dropout": part(keras.layers.Dropout, "gelu", free="rate", rate=0),
    "dense": dense("dropout"),
    "scale": part(
        keras.layers.DepthwiseConv2D, "dense", free="padding", kernel_size=1, use_bias=False
    ),
    "add": part(keras.layers.Add, INPUT, "scale"),
}


class Bottleneck(Block):
    """The fused bottleneck."""

    pattern = PATTERN
    weights = Weights(
        kernel=("dwconv", "kernel"),
        bias=("dwconv", "bias"),
        gamma=("norm", "gamma"),
        beta=("norm", "beta"),
        w=("dense", "kernel"),
        wbias=("dense", "bias"),
        scale=("scale", "kernel"),
    )

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        channels = shape[-1]
        return (
            channels % LANES == 0
            and layers["dense"].units == channels
            and layers["dropout"].rate in RATES
        )

    def prepare(self, shape, weights):
        channels, multiplier = weights.kernel.shape[2:]

        def turn(vector):
            return np.ascontiguousarray(vector.reshape(channels, multiplier).T)

        w = weights.w.reshape(channels, multiplier, -1).transpose(1, 0, 2)
        return Weights(
            kernel=np.ascontiguousarray(weights.kernel.transpose(0, 1, 3, 2)),
            bias=turn(weights.bias),
            gamma=turn(weights.gamma).reshape(-1),
            beta=turn(weights.beta).reshape(-1),
            w=w.reshape(weights.w.shape),
            wbias=weights.wbias,
            scale=weights.scale.reshape(-1),
        )

    def forward(self, draws, x, prepared, y):
        forward(x, draws, self.epsilon, prepared, y)

    def prepare_backward(self, shape, weights):
        turned = self.prepare(shape, weights)
        return BackwardWeights(
            kernel=turned.kernel,
            bias=turned.bias,
            gamma=turned.gamma,
            beta=turned.beta,
            scaled=np.ascontiguousarray((turned.w * turned.scale).T),
        )

    def backward(self, draws, dy, x, prepared, dx):
        kernel, bias, gamma, beta, scaled = prepared
        sums = Sums(
            kernel=np.zeros_like(kernel),
            bias=np.zeros_like(bias.reshape(-1)),
            gamma=np.zeros_like(gamma),
            beta=np.zeros_like(beta),
            products=np.zeros(scaled.shape[::-1], F),
            dy=np.zeros(len(scaled), F),
        )
        backward(x, draws, self.epsilon, prepared, dy, dx, sums)
        return sums

    def gradients(self, sums, weights):
        channels, multiplier = weights.kernel.shape[2:]

        def turn(vector):
            return vector.reshape(multiplier, channels).T.reshape(-1)

        w, wbias, scale = weights.w, weights.wbias, weights.scale
        products = sums.products.reshape(multiplier, channels, -1)
        products = products.transpose(1, 0, 2).reshape(w.shape)
        factors = scale.reshape(-1)
        return Weights(
            kernel=sums.kernel.transpose(0, 1, 3, 2),
            bias=turn(sums.bias),
            gamma=turn(sums.gamma),
            beta=turn(sums.beta),
            w=products * factors,
            wbias=sums.dy * factors,
            scale=((w * products).sum(axis=0) + wbias * sums.dy).reshape(scale.shape),
        )
