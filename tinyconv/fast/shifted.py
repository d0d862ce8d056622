"""Depthwise and grouped convolutions as sums of shifted images, for JAX on a CPU.

On a CPU, XLA computes the gradient of such a convolution hundreds of times slower than the number
of operations requires. In this module, the forward and the backward pass are one multiply-add of
whole images for each tap of the kernel.

Shapes: a kernel (K, K, I, O, G) maps an image (B, H, W, I, G) to (B, H', W', O, G), for G groups of
I input channels and O output channels. The groups are the last axis, so that a vector instruction
computes all groups at once. A depthwise convolution has one group per channel.
"""

from functools import partial

import jax
import jax.numpy as jnp
import keras

from tinyconv.graph import part


def _places(kernel):
    return ((a, b) for a in range(kernel.shape[0]) for b in range(kernel.shape[1]))


def _shift(x, place, size, strides, dilation):
    """The pixels of `x` by which one tap of the kernel is multiplied, (B, H', W', I, G)."""
    starts = [at * step for at, step in zip(place, dilation, strict=True)]
    rows, columns = (
        slice(start, start + (count - 1) * stride + 1, stride)
        for start, count, stride in zip(starts, size, strides, strict=True)
    )
    return x[:, rows, columns]


def _sum(x, kernel, size, strides, dilation):
    total = 0
    for place in _places(kernel):
        shifted = _shift(x, place, size, strides, dilation)
        for i in range(kernel.shape[2]):
            total += shifted[..., i, None, :] * kernel[place][i]
    return total


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(x, kernel, strides, dilation, pads):
    """Convolve x (B, H, W, I, G) with a kernel (K, K, I, O, G), both in float32.

    Args:
        x: the images.
        kernel: the kernel.
        strides: the stride of each axis.
        dilation: the dilation of each axis.
        pads: (before, after) of each axis, in pixels.

    Returns:
        The images (B, H', W', O, G).
    """
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0), (0, 0)))
    size = [
        (length - (k - 1) * d - 1) // s + 1
        for length, k, d, s in zip(
            padded.shape[1:3], kernel.shape[:2], dilation, strides, strict=True
        )
    ]
    return _sum(padded, kernel, size, strides, dilation)


def _forward(x, kernel, strides, dilation, pads):
    return convolve(x, kernel, strides, dilation, pads), (x, kernel)


def _backward(strides, dilation, pads, kept, dy):
    x, kernel = kept
    size = dy.shape[1:3]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0), (0, 0)))

    def add(total, image):  # one image at a time: an image fits into the cache
        x, dy = image
        products = (
            _shift(x[None], place, size, strides, dilation)[0, ..., :, None, :]
            * dy[..., None, :, :]
            for place in _places(kernel)
        )
        return total + jnp.stack([product.sum((0, 1)) for product in products]), None

    start = jnp.zeros((kernel.shape[0] * kernel.shape[1], *kernel.shape[2:]))
    dkernel = jax.lax.scan(add, start, (padded, dy))[0].reshape(kernel.shape)
    # The gradient of x is a convolution of dy. A stride puts zeros between the pixels of dy.
    around = []
    for axis in (0, 1):
        before = (kernel.shape[axis] - 1) * dilation[axis] - pads[axis][0]
        spread = (size[axis] - 1) * strides[axis] + 1
        after = x.shape[1 + axis] + (kernel.shape[axis] - 1) * dilation[axis] - before - spread
        around.append((before, after, strides[axis] - 1))
    dy = jax.lax.pad(dy, 0.0, ((0, 0, 0), *around, (0, 0, 0), (0, 0, 0)))
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _sum(dy, turned, x.shape[1:3], (1, 1), dilation), dkernel


convolve.defvjp(_forward, _backward)


def _apply(layer, x, kernel):
    """Convolve x (B, H, W, G * I) with a kernel (K, K, I, G, O) and the settings of `layer`."""
    window = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], window, layer.strides, layer.padding.upper())
    y = convolve(
        jnp.swapaxes(x.reshape(*x.shape[:3], kernel.shape[3], -1), -1, -2).astype("float32"),
        jnp.swapaxes(kernel, -1, -2).astype("float32"),
        tuple(layer.strides),
        tuple(layer.dilation_rate),
        tuple(map(tuple, pads)),
    )
    return jnp.swapaxes(y, -1, -2).reshape(*y.shape[:3], -1).astype(x.dtype)


FREE = "kernel_size strides padding dilation_rate use_bias activation dtype"


class Shifted(keras.layers.Layer):
    """Replaces a Keras depthwise or grouped convolution by `convolve`, and uses its variables."""

    patterns = (
        {
            "conv": part(
                keras.layers.DepthwiseConv2D, free=f"{FREE} depth_multiplier", kernel_size=1
            )
        },
        {
            "conv": part(
                keras.layers.Conv2D, free=f"{FREE} filters groups", filters=1, kernel_size=1
            )
        },
    )

    def __init__(self, stock):
        super().__init__(name=f"{stock.name}_shifted", dtype=stock.dtype_policy)
        self.stock = stock
        self.built = True

    @staticmethod
    def fits(layer, shape):
        return type(layer) is keras.layers.DepthwiseConv2D or layer.groups > 1

    def call(self, x):
        kernel = keras.ops.convert_to_tensor(self.stock.kernel)
        if type(self.stock) is keras.layers.DepthwiseConv2D:
            kernel = kernel[:, :, None]
        else:
            kernel = kernel.reshape(*kernel.shape[:3], self.stock.groups, -1)
        y = _apply(self.stock, x, kernel)
        if self.stock.use_bias:
            y += keras.ops.convert_to_tensor(self.stock.bias)
        return self.stock.activation(y)

    def compute_output_shape(self, input_shape):
        return self.stock.compute_output_shape(input_shape)
