"""Rewriting of trained models: the same function in layers that runtimes support.

- On a CPU, LiteRT uses XNNPACK, and XNNPACK's depthwise kernels are fast only for one output per
  channel.
  A depthwise convolution with m outputs per channel becomes a depthwise convolution with one
  output per channel, over m copies of its input. The new convolution has its output channels in
  another order, and the layers up to the next Dense are rewritten to the same order.
- In 8 bits, LiteRT computes a mean over channels outside XNNPACK. A product with a matrix replaces
  the mean.
- In 8 bits, the largest exponential of `tiniest` determines the quantization step. The step is then
  too coarse for smaller values. The exponent is clipped at a value for which the tanh after the
  exponential is 1.
- TFLite Micro has no GELU, and no exponential in 8 bits. Both are approximated with a sigmoid.
- ONNX Runtime refuses the exact GELU and the grouped convolutions that Keras 3.15 exports, or gives
  wrong results. GELU is written with erf, and a grouped convolution as one convolution per group.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tinyconv.graph import Graph, part

EXPONENT = 2.5  # tanh(exp(2.5)) is 1 in float32
GELU = type(ops.gelu(keras.KerasTensor((1,)))._keras_history.operation)
WIDENING = part(
    keras.layers.DepthwiseConv2D,
    free="kernel_size strides padding depth_multiplier dilation_rate activation use_bias",
    kernel_size=1,
)
PER_CHANNEL = (  # layers that treat all channels alike, in any order
    part(keras.layers.LayerNormalization, free="epsilon center scale"),
    part(keras.layers.Activation, free="activation", activation="linear"),
    part(keras.layers.Dropout, free="rate noise_shape", rate=0),
)
ELEMENTWISE = ("linear", "relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "elu", "exponential")
LAST = part(keras.layers.Dense, free="units activation use_bias", units=1)


def rewritten(model: keras.Model, onnx: bool = False) -> keras.Model:
    """Rewrite the depthwise convolutions of a model, and for ONNX its GELUs and groups too.

    Args:
        model: a functional model. It is not changed.
        onnx: whether to rewrite the layers that Keras exports wrongly to ONNX.

    Returns:
        A new model of the same function.
    """
    originals = {layer.name: layer for layer in model.layers}
    orders = _channel_orders(model)

    def clone(layer: keras.Operation) -> keras.Operation:
        kind = type(layer)
        if onnx and _activation(layer) == "gelu":
            kind = _GeluByErf
        elif onnx and isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:
            kind = _ConvByGroup
        return kind.from_config(layer.get_config())

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        original: Any = originals.get(layer.name)
        if layer.name in orders and original.weights:
            return _reordered(original, orders[layer.name], args[0])
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in copy.layers:
        if layer.name in originals and layer.name not in orders:
            layer.set_weights(originals[layer.name].get_weights())
    return copy


def _channel_orders(model: keras.Model) -> dict[str, np.ndarray]:
    """Find the depthwise convolutions to rewrite, and the order that their channels will have.

    A depthwise convolution is rewritten if it has a multiplier, and if all layers from it to the
    next Dense treat every channel alike.

    Returns:
        A dict from the name of each layer, from such a convolution to the next Dense, to the old
        indices of the channels in the new order. Channel `c * multiplier + j` moves to position
        `j * channels + c`.
    """
    graph = Graph(model)
    orders: dict[str, np.ndarray] = {}
    for first in (node for node in graph.nodes if WIDENING.fits(node)):
        chain = [first]
        while not LAST.fits(chain[-1]):
            follower = graph.follower(chain[-1])
            if follower is None or not any(own.fits(follower) for own in (*PER_CHANNEL, LAST)):
                break
            chain.append(follower)
        channels, multiplier = first.input_tensors[0].shape[-1], first.operation.depth_multiplier
        wide = {node.outputs[0].shape[-1] for node in chain[:-1]} == {channels * multiplier}
        functions = {getattr(node.operation, "activation", None) for node in chain[:-1]} - {None}
        elementwise = functions <= {*map(keras.activations.get, ELEMENTWISE)}
        if multiplier > 1 and wide and elementwise and LAST.fits(chain[-1]):
            order = np.arange(channels * multiplier).reshape(channels, multiplier).T.ravel()
            orders |= {node.operation.name: order for node in chain}
    return orders


def _reordered(layer: keras.layers.Layer, order: np.ndarray, x: Any) -> Any:
    """Call a copy of `layer` that computes on `x` with the channels in `order`.

    A Dense takes its input in this order. The output of the Dense is unchanged.
    """
    config, (kernel, *others) = layer.get_config(), layer.get_weights()
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        x = keras.layers.Concatenate(name=f"{layer.name}_copies")([x] * layer.depth_multiplier)
        config["depth_multiplier"] = 1
        kernel = kernel.reshape(*kernel.shape[:2], -1, 1)[:, :, order]
        others = [bias[order] for bias in others]
    elif isinstance(layer, keras.layers.LayerNormalization):
        kernel, others = kernel[order], [beta[order] for beta in others]
    else:
        kernel = kernel[order]
    copy = type(layer).from_config(config)
    y = copy(x)
    copy.set_weights([kernel, *others])
    return y


def for_int8(model: keras.Model, micro: bool = False) -> keras.Model:
    """Rewrite the layer norms and exponentials of a model for LiteRT in 8 bits.

    Args:
        model: a functional model. It is not changed.
        micro: whether to rewrite exponentials and GELUs for TFLite Micro, too.

    Returns:
        A new model of the same function. With `micro`, a GELU differs by up to 0.02, and a tanh of
        an exponential by up to 0.01.
    """

    def clone(layer: keras.Operation) -> keras.Operation:
        kind, after = type(layer), [node.operation for node in layer._outbound_nodes]
        if isinstance(layer, keras.layers.LayerNormalization):
            last = layer.input.ndim - 1
            if layer.axis in (-1, [-1], last, [last]):
                kind = _NormByProducts
        elif _activation(layer) == "exponential" and {*map(_activation, after)} == {"tanh"}:
            kind = _ExponentialBySigmoid if micro else _ClippedExponential
        elif micro and kind is GELU:
            return keras.layers.Activation(_gelu_by_sigmoid, name=layer.name)
        copy = kind.from_config(layer.get_config())
        if micro and getattr(copy, "activation", None) is keras.activations.gelu:
            copy.activation = _gelu_by_sigmoid
        return copy

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class _GeluByErf(keras.layers.Activation):
    """Exact GELU, computed with the error function."""

    def call(self, x: Any) -> Any:
        return x * 0.5 * (1 + ops.erf(x * 0.5**0.5))


class _ConvByGroup(keras.layers.Conv2D):
    """A grouped convolution, computed as one convolution per group."""

    def call(self, x: Any) -> Any:
        groups = zip(
            ops.split(x, self.groups, axis=-1),
            ops.split(self.kernel, self.groups, axis=-1),
            strict=True,
        )
        settings = (self.strides, self.padding, self.data_format, self.dilation_rate)
        parts = [ops.conv(inputs, kernel, *settings) for inputs, kernel in groups]
        y = ops.concatenate(parts, axis=-1)
        return self.activation(y + self.bias if self.use_bias else y)


class _NormByProducts(keras.layers.LayerNormalization):
    """A layer norm over the channels, whose means are products with a matrix."""

    def call(self, x: Any) -> Any:
        mean = np.full((x.shape[-1], 1), 1 / x.shape[-1], np.float32)
        x = x - ops.matmul(x, mean)
        x = x * ops.rsqrt(ops.matmul(x * x, mean) + self.epsilon)
        if self.scale:
            x = x * self.gamma
        return x + self.beta if self.center else x


class _ClippedExponential(keras.layers.Activation):
    """The exponential of at most `EXPONENT`."""

    def call(self, x: Any) -> Any:
        return super().call(ops.minimum(x, EXPONENT))


class _ExponentialBySigmoid(keras.layers.Activation):
    """A function whose tanh is within 0.01 of the tanh of the exponential, by fitted constants."""

    def call(self, x: Any) -> Any:
        return 8 * ops.sigmoid(1.0876 * x - 1.9373)


def _gelu_by_sigmoid(x: Any) -> Any:
    """GELU within 0.02, without the error function."""
    return x * ops.sigmoid(1.702 * x)


def _activation(layer: keras.Operation) -> str | None:
    """The name of the function of an `Activation` layer, or None for any other layer."""
    is_activation = isinstance(layer, keras.layers.Activation)
    return layer.get_config()["activation"] if is_activation else None
