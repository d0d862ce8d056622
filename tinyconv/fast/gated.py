"""The block of `tiniest`, forward and backward, as one function on one image.

scale * x + Dense(tanh(exp(a)) * a * b), where a, b = Dense(LayerNorm(views)) and the views are four
quarters of x: as it is, and through a 3x3, a 7x7 and a blurred, dilated 7x7 depthwise convolution.

Shapes: image (H, W, C), D = C / 4. A quarter lies here as rows of W * D numbers within a border of
zeros, and a kernel as (taps, taps, W * D), repeated along the row, so that inner loops are long
and alike. The layer norm's affine part is a part of the weights of the dense layer after it.
"""

import numpy as np

from tinyconv.fast.block import Block, over_channels
from tinyconv.fast.kernels import PIXELS, F, compiled, exp, normalize, normalize_gradient, tanh

# In both convolutions each tap reads a slice of its own: `row[c + jump]`, an index that Numba must
# suspect of being negative, would not be vectorized. `jump` is in lanes from tap to tap.


@compiled
def convolve3(padded, kernel, jump, target):
    """Adds to target (H, W * D) the 3x3 convolution of `padded`."""
    for h in range(target.shape[0]):
        out = target[h]
        for i in range(3):
            row, k = padded[h + i], kernel[i]
            r0, r1, r2 = row, row[jump:], row[2 * jump :]
            k0, k1, k2 = k[0], k[1], k[2]
            for c in range(out.shape[0]):
                out[c] += r0[c] * k0[c] + r1[c] * k1[c] + r2[c] * k2[c]


@compiled
def convolve7(padded, kernel, jump, dilation, target):
    """Adds to target (H, W * D) the 7x7 convolution of `padded`."""
    for h in range(target.shape[0]):
        out = target[h]
        for i in range(7):
            row, k = padded[h + i * dilation], kernel[i]
            r0, r1, r2, r3 = row, row[jump:], row[2 * jump :], row[3 * jump :]
            r4, r5, r6 = row[4 * jump :], row[5 * jump :], row[6 * jump :]
            k0, k1, k2, k3, k4, k5, k6 = k[0], k[1], k[2], k[3], k[4], k[5], k[6]
            for c in range(out.shape[0]):
                out[c] += (
                    r0[c] * k0[c]
                    + r1[c] * k1[c]
                    + r2[c] * k2[c]
                    + r3[c] * k3[c]
                    + r4[c] * k4[c]
                    + r5[c] * k5[c]
                    + r6[c] * k6[c]
                )


@compiled
def convolve_gradient(padded, jump, dilation, gradient, dkernel):
    """Adds to dkernel (taps, taps, W * D) the products of `padded` and gradient (H, W * D)."""
    height = gradient.shape[0]
    fours = height - height % 4
    for i in range(dkernel.shape[0]):
        for h in range(0, fours, 4):
            top = h + i * dilation
            g0, g1, g2, g3 = gradient[h], gradient[h + 1], gradient[h + 2], gradient[h + 3]
            for j in range(dkernel.shape[1]):
                out, first = dkernel[i, j], j * jump
                r0, r1 = padded[top, first:], padded[top + 1, first:]
                r2, r3 = padded[top + 2, first:], padded[top + 3, first:]
                for c in range(out.shape[0]):
                    out[c] += r0[c] * g0[c] + r1[c] * g1[c] + r2[c] * g2[c] + r3[c] * g3[c]
        for h in range(fours, height):
            for j in range(dkernel.shape[1]):
                out, row, g = dkernel[i, j], padded[h + i * dilation, j * jump :], gradient[h]
                for c in range(out.shape[0]):
                    out[c] += row[c] * g[c]


@compiled
def place(values, padded, border):
    """The image (H, W, D) into the middle of a plane (H + 2 border, (W + 2 border) * D)."""
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
def fill(target, row):
    for h in range(target.shape[0]):
        for c in range(row.shape[0]):
            target[h, c] = row[c]


@compiled
def collect(image, views, top, rows):
    """Rows of the four views (H, W * D), side by side as pixels: rows (P, C)."""
    _, height_width, depth = views.shape[0], views.shape[2], image.shape[2] // 4
    width = height_width // depth
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
    """The last three views of an image, to views (3, H, W * D); `planes` hold what they are of."""
    depth = image.shape[2] // 4
    near, far, wide, sharp = planes
    place(image[:, :, depth : 2 * depth], near, 1)
    place(image[:, :, 2 * depth : 3 * depth], far, 3)
    place(image[:, :, 3 * depth :], sharp, 1)
    views[2] = F(0)
    convolve3(sharp, blur, depth, views[2])
    for h in range(image.shape[0]):
        place_row(views[2, h], wide, h, 9, depth)
    for view in range(3):
        fill(views[view], biases[view])
    convolve3(near, kernels[0], depth, views[0])
    convolve7(far, kernels[1], depth, 1, views[1])
    convolve7(wide, kernels[2], 3 * depth, 3, views[2])


@compiled
def gate(both, bias, gated):
    """tanh(exp(a)) * a * b of rows (P, 2 C)."""
    width = gated.shape[1]
    for p in range(both.shape[0]):
        for c in range(width):
            a, b = both[p, c] + bias[c], both[p, width + c] + bias[width + c]
            gated[p, c] = tanh(exp(a)) * a * b


@compiled
def gate_gradient(both, bias, gated, dgated):
    """Fills `gated`, and turns `both` into its gradient."""
    width = gated.shape[1]
    for p in range(both.shape[0]):
        for c in range(width):
            a, b = both[p, c] + bias[c], both[p, width + c] + bias[width + c]
            e = exp(a)
            t = tanh(e)
            d = dgated[p, c]
            gated[p, c] = t * a * b
            both[p, c] = d * b * (t + a * (F(1) - t * t) * (e if e < F(20) else F(20)))
            both[p, width + c] = d * t * a


@compiled
def make_planes(height, width, depth):
    return (
        np.zeros((height + 2, (width + 2) * depth), F),
        np.zeros((height + 6, (width + 6) * depth), F),
        np.zeros((height + 18, (width + 18) * depth), F),
        np.zeros((height + 2, (width + 2) * depth), F),
    )


@compiled
def forward(
    x, epsilon, kernels, biases, blur, expand, expand_bias, project, project_bias, scale, y
):
    """y (B, H, W, C) of x."""
    height, width, channels = x.shape[1:]
    step = max(1, PIXELS // width)
    planes = make_planes(height, width, channels // 4)
    views = np.empty((3, height, width * (channels // 4)), F)
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
    """dx, and what the gradients of the weights are made of, added to what is there."""
    height, width, channels = x.shape[1:]
    depth = channels // 4
    step = max(1, PIXELS // width)
    planes = make_planes(height, width, depth)
    backs = make_planes(height, width, depth)
    views = np.empty((3, height, width * depth), F)
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
            for h in range(height):
                for c in range(width * depth):
                    dbiases[view, c] += views[view, h, c]
        for h in range(height):
            place_row(views[0, h], backs[0], h, 1, depth)
            place_row(views[1, h], backs[1], h, 3, depth)
            place_row(views[2, h], backs[2], h, 9, depth)
        convolve_gradient(planes[0], depth, 1, views[0], dkernels[0])
        convolve_gradient(planes[1], depth, 1, views[1], dkernels[1])
        convolve_gradient(planes[2], 3 * depth, 3, views[2], dkernels[2])
        views[:] = F(0)
        convolve3(backs[0], flipped[0], depth, views[0])
        convolve7(backs[1], flipped[1], depth, 1, views[1])
        convolve7(backs[2], flipped[2], 3 * depth, 3, views[2])
        for h in range(height):
            place_row(views[2, h], backs[3], h, 1, depth)
        views[2] = F(0)
        convolve3(backs[3], blur, depth, views[2])
        for h in range(height):
            for w in range(width):
                for view in range(3):
                    for c in range(depth):
                        dx[image, h, w, (view + 1) * depth + c] += views[view, h, w * depth + c]


class Gated(Block):
    """The fused block."""

    roles = ("scale", "dwconv3", "dwconv7", "dwconv19", "norm", "expand", "project", "add")
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
    def fits(layers):
        """Whether layers of these roles are exactly what is fused here."""
        kernels = [layers[f"dwconv{n}"].kernel_size for n in (3, 7, 19)]
        return kernels == [(3, 3), (7, 7), (7, 7)] and over_channels(layers["norm"])

    @staticmethod
    def _inner(width, k3, b3, k7, b7, k19, b19, gamma, beta, expand, expand_bias):
        """Kernels and biases repeated along a row of `width` pixels; affine part in `expand`."""
        kernels = tuple(np.tile(k[..., 0], (1, 1, width)) for k in (k3, k7, k19))
        biases = np.stack([np.tile(b, width) for b in (b3, b7, b19)])
        blur = np.full((3, 3, width * len(b3)), F(1 / 9))
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

        def fold(repeated):
            """The sum over the pixels of a row: (..., W * D) -> (..., D)."""
            return repeated.reshape(*repeated.shape[:-1], -1, depth).sum(axis=-2)

        db3, db7, db19 = fold(dbiases)
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
