"""The fused block of `tiniest`, forward and backward.

The block is scale * x + Dense(tanh(exp(a)) * a * b), where a, b = Dense(LayerNorm(views)). The four
views are functions of the four quarters of the channels of x:

- the first quarter itself;
- `near`, a 3x3 depthwise convolution of the second quarter;
- `far`, a 7x7 depthwise convolution of the third quarter;
- `wide`, a 7x7 depthwise convolution of dilation 3 of the fourth quarter after a 3x3 average pool,
  the blur.

Shapes: an image is (H, W, C), and D = C / 4. A plane holds one quarter as H rows of L numbers
within a border of zeros. L is W * D. H and L are rounded up to whole tiles. A kernel is repeated
for every pixel of a row, and is therefore (taps, taps, L). The gamma and beta of the layer norm are
multiplied into the weights of the next dense layer.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.ops.numpy import Split

from tinyconv.fast.block import Block, dense, layer_norm
from tinyconv.fast.kernels import PIXELS, F, compiled, exp, normalize, normalize_gradient, tanh
from tinyconv.fast.tiles import LANES, tile
from tinyconv.graph import part

HIGHEST = F(2.0668)  # exp(a) is computed for a up to here: tanh(exp(2.0668)) is 1 within 3e-7
ROWS = 4  # of output per tile


class Weights(NamedTuple):
    """The weights, or their gradients, with the shapes of Keras."""

    near: Any
    near_bias: Any
    far: Any
    far_bias: Any
    wide: Any
    wide_bias: Any
    gamma: Any
    beta: Any
    expand: Any
    expand_bias: Any
    project: Any
    project_bias: Any
    scale: Any


class Kernels(NamedTuple):
    """The kernels of the 3x3, 7x7, dilated 7x7 and blur convolutions, (taps, taps, L)."""

    near: Any
    far: Any
    wide: Any
    blur: Any


class Planes(NamedTuple):
    """The inputs of the same convolutions, within borders of zeros."""

    near: Any
    far: Any
    wide: Any
    blur: Any


class ForwardWeights(NamedTuple):
    """The weights for `forward`. The biases are (4, L), in the order of `Kernels`."""

    kernels: Kernels
    biases: Any
    expand: Any
    expand_bias: Any
    project: Any
    project_bias: Any
    scale: Any


class BackwardWeights(NamedTuple):
    """The weights for `backward`. `flipped` are the kernels, turned by 180 degrees.

    `expand_back` and `project_back` are the transposed weights of the two dense layers.
    """

    kernels: Kernels
    flipped: Kernels
    biases: Any
    expand: Any
    expand_back: Any
    expand_bias: Any
    project_back: Any
    scale: Any


class Sums(NamedTuple):
    """What `backward` sums over all pixels.

    `near`, `far` and `wide` are gradients of kernels, `biases` of biases, and `scale` of the scale.
    The products and sums are the gradients of the two dense layers, the first with gamma and beta
    multiplied into its weights.
    """

    near: Any
    far: Any
    wide: Any
    biases: Any
    expand_products: Any
    expand_sums: Any
    project_products: Any
    project_sums: Any
    scale: Any


def _convolution(taps, rows):
    """A tile of the convolution. Strides: (row,), (row, row of taps, tap), (row of taps, tap)."""
    every = [(i, j) for i in range(taps) for j in range(taps)]
    products = [(row, (row, *tap), tap) for tap in every for row in range(rows)]
    return tile([(row,) for row in range(rows)], products, shared=True)


def _gradient(taps, rows):
    """A tile of the gradient of a row of taps. Strides: (tap,), (row, tap), (row,)."""
    products = [(tap, (row, tap), (row,)) for row in range(rows) for tap in range(taps)]
    return tile([(tap,) for tap in range(taps)], products)


three, three_back = _convolution(3, ROWS), _gradient(3, ROWS)
seven, seven_back = _convolution(7, ROWS), _gradient(7, ROWS)


@compiled
def convolve(padded, kernel, bias, jump, dilation, target):
    """Write the 3x3 or 7x7 convolution of `padded` to target (H, L).

    Neighbouring taps of a row are `jump` numbers apart.
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
    """Copy an image (H, W, D) into a plane, inside a border of `border` pixels."""
    height, width, depth = values.shape
    for h in range(height):
        for w in range(width):
            first = (w + border) * depth
            for c in range(depth):
                padded[h + border, first + c] = values[h, w, c]


@compiled
def place_row(row, padded, h, border, depth):
    """Copy row `h` of an image into a plane, as `place` does."""
    first = border * depth
    for c in range(row.shape[0]):
        padded[h + border, first + c] = row[c]


@compiled
def collect(image, views, top, rows):
    """Write the four views of a few rows of an image, starting at row `top`, to rows (P, C)."""
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
def compute_views(image, planes, kernels, biases, views):
    """Write the last three views of an image to views (3, H, L).

    The function also writes the inputs of the convolutions to `planes`.
    """
    depth = image.shape[2] // 4
    place(image[:, :, depth : 2 * depth], planes.near, 1)
    place(image[:, :, 2 * depth : 3 * depth], planes.far, 3)
    place(image[:, :, 3 * depth :], planes.blur, 1)
    convolve(planes.blur, kernels.blur, biases[3], depth, 1, views[2])
    for h in range(image.shape[0]):
        place_row(views[2, h, : image.shape[1] * depth], planes.wide, h, 9, depth)
    convolve(planes.near, kernels.near, biases[0], depth, 1, views[0])
    convolve(planes.far, kernels.far, biases[1], depth, 1, views[1])
    convolve(planes.wide, kernels.wide, biases[2], 3 * depth, 3, views[2])


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
    """Planes of zeros."""
    height = whole(height, ROWS)
    return Planes(
        near=np.zeros((height + 2, (width + 2) * depth + LANES), F),
        far=np.zeros((height + 6, (width + 6) * depth + LANES), F),
        wide=np.zeros((height + 18, (width + 18) * depth + LANES), F),
        blur=np.zeros((height + 2, (width + 2) * depth + LANES), F),
    )


@compiled
def make_views(height, width, depth):
    """Zeros for the last three views, (3, H, L)."""
    return np.zeros((3, whole(height, ROWS), whole(width * depth, LANES)), F)


@compiled
def forward(x, epsilon, weights, y):
    """Write the output for x to y (B, H, W, C)."""
    project_bias, scale = weights.project_bias, weights.scale
    height, width, channels = x.shape[1:]
    step = max(1, PIXELS // width)
    planes = make_planes(height, width, channels // 4)
    views = make_views(height, width, channels // 4)
    normals = np.empty((step * width, channels), F)
    boths = np.empty((step * width, 2 * channels), F)
    gateds = np.empty((step * width, channels), F)
    inverse = np.empty(step * width, F)
    for image in range(x.shape[0]):
        compute_views(x[image], planes, weights.kernels, weights.biases, views)
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            normal, both, gated = normals[:pixels], boths[:pixels], gateds[:pixels]
            collect(x[image], views, top, normal)
            normalize(normal, inverse, epsilon)
            np.dot(normal, weights.expand, both)
            gate(both, weights.expand_bias, gated)
            source = x[image, top : top + step].reshape(pixels, channels)
            target = y[image, top : top + step].reshape(pixels, channels)
            np.dot(gated, weights.project, target)
            for p in range(pixels):
                for c in range(channels):
                    target[p, c] += project_bias[c] + scale[c] * source[p, c]


@compiled
def backward(x, epsilon, weights, dy, dx, sums):
    """Write the gradient of x to dx, and add to `sums`."""
    flipped, biases, scale = weights.flipped, weights.biases, weights.scale
    expand_products, project_products = sums.expand_products, sums.project_products
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
        compute_views(x[image], planes, weights.kernels, weights.biases, views)
        for top in range(0, height, step):
            pixels = min(step, height - top) * width
            normal, both, gated = normals[:pixels], boths[:pixels], gateds[:pixels]
            dgated, drow = dgateds[:pixels], drows[:pixels]
            collect(x[image], views, top, normal)
            normalize(normal, inverse, epsilon)
            np.dot(normal, weights.expand, both)
            source = x[image, top : top + step].reshape(pixels, channels)
            gradient = dy[image, top : top + step].reshape(pixels, channels)
            through = dx[image, top : top + step].reshape(pixels, channels)
            np.dot(gradient, weights.project_back, dgated)
            gate_gradient(both, weights.expand_bias, gated, dgated)
            np.dot(gated.T, gradient, square)
            project_products += square
            np.dot(normal.T, both, product)
            expand_products += product
            np.dot(both, weights.expand_back, drow)
            for p in range(pixels):
                for c in range(2 * channels):
                    sums.expand_sums[c] += both[p, c]
                for c in range(channels):
                    sums.project_sums[c] += gradient[p, c]
                    sums.scale[c] += gradient[p, c] * source[p, c]
                    through[p, c] = gradient[p, c] * scale[c]
                normalize_gradient(drow[p], normal[p], inverse[p])
                for c in range(depth):
                    through[p, c] += drow[p, c]
                h, w = top + p // width, (p % width) * depth
                for view in range(3):
                    for c in range(depth):
                        views[view, h, w + c] = drow[p, (view + 1) * depth + c]
        for view in range(3):
            views[view, height:] = F(0)  # `compute_views` wrote to these rows
            for h in range(height):
                for c in range(width * depth):
                    sums.biases[view, c] += views[view, h, c]
        for h in range(height):
            place_row(views[0, h, : width * depth], backs.near, h, 1, depth)
            place_row(views[1, h, : width * depth], backs.far, h, 3, depth)
            place_row(views[2, h, : width * depth], backs.wide, h, 9, depth)
        convolve_gradient(planes.near, depth, 1, views[0], sums.near)
        convolve_gradient(planes.far, depth, 1, views[1], sums.far)
        convolve_gradient(planes.wide, 3 * depth, 3, views[2], sums.wide)
        convolve(backs.near, flipped.near, biases[3], depth, 1, views[0])
        convolve(backs.far, flipped.far, biases[3], depth, 1, views[1])
        convolve(backs.wide, flipped.wide, biases[3], 3 * depth, 3, views[2])
        for h in range(height):
            place_row(views[2, h, : width * depth], backs.blur, h, 1, depth)
        convolve(backs.blur, flipped.blur, biases[3], depth, 1, views[2])
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
    weights = Weights(
        near=("dwconv3", "kernel"),
        near_bias=("dwconv3", "bias"),
        far=("dwconv7", "kernel"),
        far_bias=("dwconv7", "bias"),
        wide=("dwconv19", "kernel"),
        wide_bias=("dwconv19", "bias"),
        gamma=("norm", "gamma"),
        beta=("norm", "beta"),
        expand=("expand", "kernel"),
        expand_bias=("expand", "bias"),
        project=("project", "kernel"),
        project_bias=("project", "bias"),
        scale=("scale", "kernel"),
    )

    def __init__(self, layers):
        self.epsilon = F(layers["norm"].epsilon)

    @staticmethod
    def fits(layers, shape):
        channels = shape[-1]
        return layers["expand"].units == 2 * channels and layers["project"].units == channels

    def prepare(self, shape, weights):
        pixels, depth = shape[2], len(weights.near_bias)
        lanes = whole(pixels * depth, LANES)

        def row(vectors):
            """Repeat (..., D) to (..., L), with zeros at the end."""
            repeated = np.zeros((*vectors.shape[:-1], lanes), F)
            repeated[..., : pixels * depth] = np.tile(vectors, pixels)
            return repeated

        biases = weights.near_bias, weights.far_bias, weights.wide_bias
        return ForwardWeights(
            kernels=Kernels(
                near=row(weights.near[..., 0]),
                far=row(weights.far[..., 0]),
                wide=row(weights.wide[..., 0]),
                blur=row(np.full((3, 3, depth), F(1 / 9))),
            ),
            biases=row(np.stack([*biases, np.zeros_like(biases[0])])),
            expand=weights.gamma[:, None] * weights.expand,
            expand_bias=weights.beta @ weights.expand + weights.expand_bias,
            project=weights.project,
            project_bias=weights.project_bias,
            scale=weights.scale.reshape(-1),
        )

    def forward(self, draws, x, prepared, y):
        forward(x, self.epsilon, prepared, y)

    def prepare_backward(self, shape, weights):
        inner = self.prepare(shape, weights)
        return BackwardWeights(
            kernels=inner.kernels,
            flipped=Kernels(*(np.ascontiguousarray(k[::-1, ::-1]) for k in inner.kernels)),
            biases=inner.biases,
            expand=inner.expand,
            expand_back=np.ascontiguousarray(inner.expand.T),
            expand_bias=inner.expand_bias,
            project_back=np.ascontiguousarray(weights.project.T),
            scale=inner.scale,
        )

    def backward(self, draws, dy, x, prepared, dx):
        sums = Sums(
            near=np.zeros_like(prepared.kernels.near),
            far=np.zeros_like(prepared.kernels.far),
            wide=np.zeros_like(prepared.kernels.wide),
            biases=np.zeros_like(prepared.biases),
            expand_products=np.zeros_like(prepared.expand),
            expand_sums=np.zeros_like(prepared.expand_bias),
            project_products=np.zeros_like(prepared.project_back),
            project_sums=np.zeros_like(prepared.scale),
            scale=np.zeros_like(prepared.scale),
        )
        backward(x, self.epsilon, prepared, dy, dx, sums)
        return sums

    def gradients(self, sums, weights):
        depth = len(weights.near_bias)

        def fold(row):
            """The sum over the pixels of a row: (..., L) -> (..., D)."""
            row = row[..., : row.shape[-1] // depth * depth]
            return row.reshape(*row.shape[:-1], -1, depth).sum(axis=-2)

        near_bias, far_bias, wide_bias, _ = fold(sums.biases)
        products, dbias = sums.expand_products, sums.expand_sums
        return Weights(
            near=fold(sums.near)[..., None],
            near_bias=near_bias,
            far=fold(sums.far)[..., None],
            far_bias=far_bias,
            wide=fold(sums.wide)[..., None],
            wide_bias=wide_bias,
            gamma=(products * weights.expand).sum(axis=1),
            beta=weights.expand @ dbias,
            expand=weights.gamma[:, None] * products + weights.beta[:, None] * dbias,
            expand_bias=dbias,
            project=sums.project_products,
            project_bias=sums.project_sums,
            scale=sums.scale.reshape(weights.scale.shape),
        )
