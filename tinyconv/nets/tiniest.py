"""Tiniest: 94.6% on CIFAR-10 from 97,530 parameters.

Source: https://github.com/xvel/cifar10-tiniest (no licence; rebuilt from a description).

Published CIFAR-10 test accuracy: 94.4% after 200 epochs (mean of 5), 94.6% after 300.

A block splits the channels into quarters. Their receptive fields are 1x1, 3x3, 7x7 and, after a
blur, 19x19 pixels. A gated dense layer mixes the quarters. The net downscales once. The
initialization is that of PyTorch.
"""

import keras
from keras import ops

BLOCKS = 3  # number in each of the two stages


def uniform(fan_in):
    """PyTorch's initializer of convolutions and linear layers: uniform within 1 / sqrt(fan_in)."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def conv(x, width, kernel, name, stride=1, groups=1):
    fan_in = kernel * kernel * x.shape[-1] // groups
    return keras.layers.Conv2D(
        width,
        kernel,
        strides=stride,
        groups=groups,
        padding="same" if stride == 1 else "valid",
        kernel_initializer=uniform(fan_in),
        bias_initializer=uniform(fan_in),
        data_format="channels_last",
        name=name,
    )(x)


def dwconv(x, kernel, name, dilation=1):
    return keras.layers.DepthwiseConv2D(
        kernel,
        padding="same",
        dilation_rate=dilation,
        depthwise_initializer=uniform(kernel * kernel),
        bias_initializer=uniform(kernel * kernel),
        data_format="channels_last",
        name=name,
    )(x)


def dense(x, width, name, dtype=None):
    fan_in = x.shape[-1]
    return keras.layers.Dense(
        width,
        kernel_initializer=uniform(fan_in),
        bias_initializer=uniform(fan_in),
        dtype=dtype,
        name=name,
    )(x)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def block(x, width, name):
    """scale * x + Dense(tanh(exp(a)) * a * b), where a, b = Dense(LayerNorm(four views of x))."""
    scaled = keras.layers.DepthwiseConv2D(
        1,
        use_bias=False,
        depthwise_initializer="ones",
        data_format="channels_last",
        name=f"{name}_scale",
    )(x)
    same, near, far, wide = ops.split(x, 4, axis=-1)  # (H, W, C) -> 4 x (H, W, C / 4)
    near = dwconv(near, 3, f"{name}_dwconv3")
    far = dwconv(far, 7, f"{name}_dwconv7")
    # The zeros at the border count in the average. With padding="same", Keras would leave them out.
    wide = keras.layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad")(wide)
    wide = keras.layers.AveragePooling2D(
        3, strides=1, data_format="channels_last", name=f"{name}_blur"
    )(wide)
    wide = dwconv(wide, 7, f"{name}_dwconv19", dilation=3)
    x = keras.layers.Concatenate(name=f"{name}_concat")([same, near, far, wide])
    x = norm(x, f"{name}_norm")
    x = dense(x, 2 * width, f"{name}_expand")  # (H, W, C) -> (H, W, 2C)
    a, b = ops.split(x, 2, axis=-1)
    gate = keras.layers.Activation("exponential", name=f"{name}_exp")(a)
    gate = keras.layers.Activation("tanh", name=f"{name}_tanh")(gate)
    x = keras.layers.Multiply(name=f"{name}_gate")([gate, a, b])
    x = dense(x, width, f"{name}_project")  # -> (H, W, C)
    return keras.layers.Add(name=f"{name}_add")([scaled, x])


def tiniest(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 255, offset=-0.5, name="normalize")(inputs)
    x = conv(x, 48, 3, "stem_conv")  # (32, 32, 3) -> (32, 32, 48)
    x = norm(x, "stem_norm")
    for number in range(1, BLOCKS + 1):
        x = block(x, 48, f"stage1_block{number}")
    x = keras.layers.ZeroPadding2D(1, data_format="channels_last", name="downscale_pad")(x)
    x = conv(x, 80, 4, "downscale_conv", stride=2, groups=16)  # (32, 32, 48) -> (16, 16, 80)
    x = norm(x, "downscale_norm")
    for number in range(1, BLOCKS + 1):
        x = block(x, 80, f"stage2_block{number}")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (16, 16, 80) -> (80,)
    if num_classes:
        x = dense(x, num_classes, "head_dense", dtype="float32")
    return keras.Model(inputs, x, name="tiniest")


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "ln1.ln", "norm"
    yield "downscale_conv", "dsconv", "conv"
    yield "downscale_norm", "ln2.ln", "norm"
    for index in range(2 * BLOCKS):
        block = f"stage{index // BLOCKS + 1}_block{index % BLOCKS + 1}"
        key = f"l{index + 1}"
        yield f"{block}_scale", f"{key}.rs", "scale"
        yield f"{block}_dwconv3", f"{key}.dwconv1", "depthwise"
        yield f"{block}_dwconv7", f"{key}.dwconv2", "depthwise"
        yield f"{block}_dwconv19", f"{key}.dwconv3", "depthwise"
        yield f"{block}_norm", f"{key}.ln.ln", "norm"
        yield f"{block}_expand", f"{key}.fc1", "pointwise"
        yield f"{block}_project", f"{key}.fc2", "pointwise"
    yield "head_dense", "fc", "dense"
