"""The fused block of `tiniest`, forward and backward.

The block is scale * x + Dense(tanh(exp(a)) * a * b), where a, b = Dense(LayerNorm(views)). The four
views are the quarters of the channels of x. The first is unchanged. The others go through a 3x3, a
7x7, and a blurred and dilated 7x7 depthwise convolution.

Shapes: an image is (H, W, C), and D = C / 4. A quarter is stored as H rows of L numbers within a
border of zeros, where L is W * D. H and L are rounded up to whole tiles. A kernel is (taps, taps,
L), repeated for every pixel of a row. The gamma and beta of the layer norm are multiplied into the
weights of the dense layer after it.
"""

import keras
import numpy as np
from keras.src.ops.numpy import Split

from tinyconv.fast.block import Block, dense, layer_norm
from tinyconv.fast.kernels import PIXELS, F, compiled, exp, normalize, normalize_gradient, tanh
from tinyconv.fast.tiles import LANES, tile
from tinyconv.graph import part

HIGHEST = F(2.0668)  # tanh(exp(2.0668)) is 1 within 3e-7
ROWS = 4  # of output per tile


def _convolution(taps, rows):
    """A tile of the convolution: strides (row,), (row, row of taps, tap), (row of taps, tap)."""
    every = [(i, j) for i in range(taps) for j in range(taps)]
    products = [(row, (row, *tap), tap) for tap in every for row in range(rows)]
    return tile([(row,) for row in range(rows)], products, shared=True)


def _gradient(taps, rows):
    """A tile of the gradient of a row of taps: strides (tap,), (row, tap), (row,)."""
    products = [(tap, (row, tap), (row,)) for row in range(rows) for tap in range(taps)]
    return tile([(tap,) for tap in range(taps)], products)


three, three_back = _convolution(3, ROWS), _gradient(3, ROWS)
seven, seven_back = _convolution(7, ROWS), _gradient(7, ROWS)


@compiled
def convolve(padded, kernel, bias, jump, dilation, target):
    """Write the 3x3 or 7x7 convolution of `padded` to target (H, L).

    Two taps of a row are `jump` numbers apart.
    """
    taps, (height, lanes), width = kernel.shape[0], target.shape, padded.shape[1]
    source, weights, out = padded.reshape(-1), kernel.reshape(-1), target.reshape(-1)
    outs, sources, kernels = (lanes,), (width, dilation * width, jump), (taps * lanes, lanes)
    for c in range(0, lanes, LANES):
        for h in range(0, height, ROWS):
            at, to = h * width + c, h * lanes + c
            if taps == 3:
                three(out, to, bias, c, source, at, weights, c, outs, sources, kernels)
            else:
                seven(out, to, bias, c, source, at, weights, c, outs, sources, kernels)


@compiled
def convolve_gradient(padded, jump, dilation, gradient, dkernel):
    """Add the gradient of the kernel to dkernel (taps, taps, L).

    `gradient` (H, L) is that of the output of the convolution of `padded`.
    """
    taps, (height, lanes), width = dkernel.shape[0], gradient.shape, padded.shape[1]
    source, back, out = padded.reshape(-1), gradient.reshape(-1), dkernel.reshape(-1)
    outs, sources = (lanes,), (width, jump)
    for c in range(0, lanes, LANES):
        for i in range(taps):
            to = i * taps * lanes + c
            for h in range(0, height, ROWS):
                at, of = (h + i * dilation) * width + c, h * lanes + c
                if taps == 3:
                    three_back(out, to, out, to, source, at, back, of, outs, sources, outs)
                else:
                    seven_back(out, to, out, to, source, at, back, of, outs, sources, outs)


@compiled
def whole(count, unit):
    """`count` rounded up to a multiple of `unit`."""
    return (count + unit - 1) // unit * unit


@compiled
def place(values, padded, border):
    """Copy an image (H, W, D) to a plane of `make_planes`, inside its border."""
    height, width, depth = values.shape
    for h in range(height):
        for w in range(width):
            first = (w + border) * depth
            for c in range(depth):
                padded[h + border, first + c] = values[h, w, c]


@compiled
def place_row(row, padded, h, border, depth):
    first = border * depth
    for c in range(row.shape[0]):
        padded[h + border, first + c] = row[c]


@compiled
def collect(image, views, top, rows):
    """Concatenate the four views of a few rows of an image, from row `top` on, to rows (P, C)."""
    width, depth = image.shape[1], image.shape[2] // 4
    for h in range(rows.shape[0] // width):
        for w in range(width):
            p = h * width + w
            for c in range(depth):
                rows[p, c] = image[top + h, w, c]
            for view in range(3):
                first = (view + 1) * depth
                for c in range(depth):
                    rows[p, first + c] = views[view, top + h, w * depth + c]


@compiled
def look(image, planes, kernels, biases, blur, views):
    """Write the last three views of an image to views (3, H, L).

    The inputs of the convolutions are written to `planes`.
    """
    depth = image.shape[2] // 4
    near, far, wide, sharp = planes
    place(image[:, :, depth : 2 * depth], near, 1)
    place(image[:, :, 2 * depth : 3 * depth], far, 3)
    place(image[:, :, 3 * depth :], sharp, 1)
    convolve(sharp, blur, biases[3], depth, 1, views[2])
    for h in range(image.shape[0]):
        place_row(views[2, h, : image.shape[1] * depth], wide, h, 9, depth)
    convolve(near, kernels[0], biases[0], depth, 1, views[0])
    convolve(far, kernels[1], biases[1], depth, 1, views[1])
    convolve(wide, kernels[2], biases[2], 3 * depth, 3, views[2])


@compiled
def gate(both, bias, gated):
    """Write tanh(exp(a)) * a * b for a, b in rows (P, 2 C) to gated (P, C)."""
    width = gated.shape[1]
    for p in range(both.shape[0]):
        for c in range(width):
            a, b = both[p, c] + bias[c], both[p, width + c] + bias[width + c]
            gated[p, c] = tanh(exp(a, HIGHEST)) * a * b


@compiled
def gate_gradient(both, bias, gated, dgated):
    """Write the gate's output to `gated`, and replace `both` by its gradient."""
    width = gated.shape[1]
    for p in range(both.shape[0]):
        for c in range(width):
            a, b = both[p, c] + bias[c], both[p, width + c] + bias[width + c]
            e = exp(a, HIGHEST)
            t = tanh(e)
            d = dgated[p, c]
            gated[p, c] = t * a * b
            both[p, c] = d * b * (t + a * (F(1) - t * t) * e)
            both[p, width + c] = d * t * a


@compiled
def make_planes(height, width, depth):
    """Zeros for the inputs of the 3x3, 7x7, dilated 7x7 and blur convolutions, with borders."""
    height = whole(height, ROWS)
    return (
        np.zeros((height + 2, (width + 2) * depth + LANES), F),
        np.zeros((height + 6, (width + 6) * depth + LANES), F),
        np.zeros((height + 18, (width + 18) * depth + LANES), F),
        np.zeros((height + 2, (width + 2) * depth + LANES), F),
    )


@compiled
def make_views(height, width, depth):
    """Zeros for the last three views, (3, H, L)."""
    return np.zeros((3, whole(height, ROWS), whole(width * depth, LANES)), F)


@compiled
def forward(
    x, epsilon, kernels, biases, blur, expand, expand_bias, project, project_bias, scale, y
):
    """Write the output for x to y (B, H, W, C)."""
    height, width, channels = x.shape[1:]
    step = max(1, PIXELS // width)
    planes = make_planes(height, width, channels // 4)
    views = make_views(height, width, channels // 4)
    normals = np.empty((step * width, channels), F)
    boths = np.empty((step * width, 2 * channels), F)
    gateds = np.empty((step * width, channels), F)
    inverse = np.empty(step * width, F)
    for image in range(x.shape[0]):
        look(x[image], planes, kernels, biases, blur, views)
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            normal, both, gated = normals[:pixels], boths[:pixels], gateds[:pixels]
            collect(x[image], views, top, normal)
            normalize(normal, inverse, epsilon)
            np.dot(normal, expand, both)
            gate(both, expand_bias, gated)
            source = x[image, top : top + step].reshape(pixels, channels)
            target = y[image, top : top + step].reshape(pixels, channels)
            np.dot(gated, project, target)
            for p in range(pixels):
                for c in range(channels):
                    target[p, c] += project_bias[c] + scale[c] * source[p, c]


@compiled
def backward(
    x,
    epsilon,
    kernels,
    flipped,
    biases,
    blur,
    expand,
    expand_back,
    expand_bias,
    project_back,
    scale,
    dy,
    dx,
    dkernels,
    dbiases,
    expand_products,
    expand_sums,
    project_products,
    project_sums,
    dscale,
):
    """Write the gradient of x to dx, and add the arguments of `Gated.gradients` to the others."""
    height, width, channels = x.shape[1:]
    depth = channels // 4
    step = max(1, PIXELS // width)
    planes = make_planes(height, width, depth)
    backs = make_planes(height, width, depth)
    views = make_views(height, width, depth)
    normals = np.empty((step * width, channels), F)
    boths = np.empty((step * width, 2 * channels), F)
    gateds = np.empty((step * width, channels), F)
    dgateds = np.empty((step * width, channels), F)
    drows = np.empty((step * width, channels), F)
    product = np.empty((channels, 2 * channels), F)
    square = np.empty((channels, channels), F)
    inverse = np.empty(step * width, F)
    for image in range(x.shape[0]):
        look(x[image], planes, kernels, biases, blur, views)
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            normal, both, gated = normals[:pixels], boths[:pixels], gateds[:pixels]
            dgated, drow = dgateds[:pixels], drows[:pixels]
            collect(x[image], views, top, normal)
            normalize(normal, inverse, epsilon)
            np.dot(normal, expand, both)
            source = x[image, top : top + step].reshape(pixels, channels)
            gradient = dy[image, top : top + step].reshape(pixels, channels)
            through = dx[image, top : top + step].reshape(pixels, channels)
            np.dot(gradient, project_back, dgated)
            gate_gradient(both, expand_bias, gated, dgated)
            np.dot(gated.T, gradient, square)
            project_products += square
            np.dot(normal.T, both, product)
            expand_products += product
            np.dot(both, expand_back, drow)
            for p in range(pixels):
                for c in range(2 * channels):
                    expand_sums[c] += both[p, c]
                for c in range(channels):
                    project_sums[c] += gradient[p, c]
                    dscale[c] += gradient[p, c] * source[p, c]
                    through[p, c] = gradient[p, c] * scale[c]
                normalize_gradient(drow[p], normal[p], inverse[p])
                for c in range(depth):
                    through[p, c] += drow[p, c]
                h, w = top + p // width, (p % width) * depth
                for view in range(3):
                    for c in range(depth):
                        views[view, h, w + c] = drow[p, (view + 1) * depth + c]
        for view in range(3):
            views[view, height:] = F(0)  # `look` wrote to these rows
            for h in range(height):
                for c in range(width * depth):
                    dbiases[view, c] += views[view, h, c]
        for h in range(height):
            place_row(views[0, h, : width * depth], backs[0], h, 1, depth)
            place_row(views[1, h, : width * depth], backs[1], h, 3, depth)
            place_row(views[2, h, : width * depth], backs[2], h, 9, depth)
        convolve_gradient(planes[0], depth, 1, views[0], dkernels[0])
        convolve_gradient(planes[1], depth, 1, views[1], dkernels[1])
        convolve_gradient(planes[2], 3 * depth, 3, views[2], dkernels[2])
        convolve(backs[0], flipped[0], biases[3], depth, 1, views[0])
        convolve(backs[1], flipped[1], biases[3], depth, 1, views[1])
        convolve(backs[2], flipped[2], biases[3], 3 * depth, 3, views[2])
        for h in range(height):
            place_row(views[2, h, : width * depth], backs[3], h, 1, depth)
        convolve(backs[3], blur, biases[3], depth, 1, views[2])
        for h in range(height):
            for w in range(width):
                for view in range(3):
                    for c in range(depth):
                        dx[image, h, w, (view + 1) * depth + c] += views[view, h, w * depth + c]


PATTERN = {
    "scale": part(keras.layers.DepthwiseConv2D, free="padding", kernel_size=1, use_bias=False),
    "quarters": part(Split, indices_or_sections=4, axis=-1),
    "dwconv3": part(keras.layers.DepthwiseConv2D, "quarters:1", kernel_size=3, padding="same"),
    "dwconv7": part(keras.layers.DepthwiseConv2D, "quarters:2", kernel_size=7, padding="same"),
    "pad": part(keras.layers.ZeroPadding2D, "quarters:3", padding=1),
    "blur": part(keras.layers.AveragePooling2D, "pad", pool_size=3, strides=1),
    "dwconv19": part(
        keras.layers.DepthwiseConv2D, "blur", kernel_size=7, padding="same", dilation_rate=3
    ),
    "concat": part(keras.layers.Concatenate, "quarters", "dwconv3", "dwconv7", "dwconv19"),
    "norm": layer_norm("concat"),
    "expand": dense("norm"),
    "halves": part(Split, "expand", indices_or_sections=2, axis=-1),
    "exp": part(keras.layers.Activation, "halves", activation="exponential"),
    "tanh": part(keras.layers.Activation, "exp", activation="tanh"),
    "gate": part(keras.layers.Multiply, "tanh", "halves", "halves:1"),
    "project": dense("gate"),
    "add": part(keras.layers.Add, "scale", "project"),
}


class Gated(Block):
    """The fused block of `tiniest`."""

    pattern = PATTERN
    weights = (
        ("dwconv3", "kernel"),
        ("dwconv3", "bias"),
        ("dwconv7", "kernel"),
        ("dwconv7", "bias"),
        ("dwconv19", "kernel"),
        ("dwconv19", "bias"),
        ("norm", "gamma"),
        ("norm", "beta"),
        ("expand", "kernel"),
        ("expand", "bias"),
        ("project", "kernel"),
        ("project", "bias"),
        ("scale", "kernel"),
    )

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        channels = shape[-1]
        return layers["expand"].units == 2 * channels and layers["project"].units == channels

    @staticmethod
    def _inner(width, k3, b3, k7, b7, k19, b19, gamma, beta, expand, expand_bias):
        """Kernels and biases for rows of `width` pixels, and `expand` with gamma and beta."""
        lanes = whole(width * len(b3), LANES)

        def row(vectors):
            """Repeat (..., D) to (..., L), with zeros at the end."""
            repeated = np.zeros((*vectors.shape[:-1], lanes), F)
            repeated[..., : width * len(b3)] = np.tile(vectors, width)
            return repeated

        kernels = tuple(row(k[..., 0]) for k in (k3, k7, k19))
        biases = row(np.stack([b3, b7, b19, np.zeros_like(b3)]))
        blur = row(np.full((3, 3, len(b3)), F(1 / 9)))
        return kernels, biases, blur, gamma[:, None] * expand, beta @ expand + expand_bias

    def prepare(self, shape, *weights):
        *inner, project, project_bias, scale = weights
        return *self._inner(shape[2], *inner), project, project_bias, scale.reshape(-1)

    def forward(self, draws, x, prepared, y):
        forward(x, self.epsilon, *prepared, y)

    def prepare_backward(self, shape, *weights):
        *inner, project, _, scale = weights
        kernels, biases, blur, expand, expand_bias = self._inner(shape[2], *inner)
        flipped = tuple(np.ascontiguousarray(k[::-1, ::-1]) for k in kernels)
        expand_back, project_back = (np.ascontiguousarray(w.T) for w in (expand, project))
        return (
            *(kernels, flipped, biases, blur),
            *(expand, expand_back, expand_bias, project_back, scale.reshape(-1)),
        )

    def backward(self, draws, dy, x, prepared, dx):
        kernels, _, biases, _, expand, _, expand_bias, project_back, scale = prepared
        dkernels = tuple(np.zeros_like(k) for k in kernels)
        like = (biases, expand, expand_bias, project_back, scale, scale)
        sums = [np.zeros_like(a) for a in like]
        backward(x, self.epsilon, *prepared, dy, dx, dkernels, *sums)
        return *dkernels, *sums

    def gradients(self, sums, *weights):
        gamma, beta, expand, *_, scale = weights[6:]
        d3, d7, d19, dbiases, products, dexpand_bias, dproject, dproject_bias, dscale = sums
        depth = len(weights[1])

        def fold(row):
            """The sum over the pixels of a row: (..., L) -> (..., D)."""
            row = row[..., : row.shape[-1] // depth * depth]
            return row.reshape(*row.shape[:-1], -1, depth).sum(axis=-2)

        db3, db7, db19, _ = fold(dbiases)
        return (
            fold(d3)[..., None],
            db3,
            fold(d7)[..., None],
            db7,
            fold(d19)[..., None],
            db19,
            (products * expand).sum(axis=1),
            expand @ dexpand_bias,
            gamma[:, None] * products + beta[:, None] * dexpand_bias,
            dexpand_bias,
            dproject,
            dproject_bias,
            dscale.reshape(scale.shape),
        )
