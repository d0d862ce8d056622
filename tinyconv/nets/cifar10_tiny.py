"""cifar10-tiny: a ConvNeXt-like net for 32x32 images with a widening depthwise convolution.

Source: https://github.com/soyflourbread/cifar10-tiny (MIT), rebuilt from its description.

| net               | parameters | CIFAR-10 test accuracy published there           |
|-------------------|------------|--------------------------------------------------|
| cifar10_tiny      | 170,282    | 77.97% at epoch 10, 84.84% at 50, 86.47% at 100  |
| cifar10_tiny_half | 48,794     | 81%                                              |

The block differs from that of ConvNeXt in two points. The kernel is 3x3, not 7x7. A block has only
one Dense layer, because its depthwise convolution has `multiplier` outputs per channel.
"""

import keras

from tinyconv.nets.blocks import normalize

CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # mean, standard deviation


def bottleneck(x, width, multiplier, name):
    """x + scale * Dense(Dropout(GELU(LayerNorm(DepthwiseConv(x))))): narrow, wide, narrow."""
    shortcut = x
    x = keras.layers.DepthwiseConv2D(
        3,
        padding="same",
        depth_multiplier=multiplier,
        data_format="channels_last",
        name=f"{name}_dwconv",
    )(x)  # (H, W, C) -> (H, W, C * multiplier)
    x = keras.layers.LayerNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    x = keras.layers.Activation("gelu", name=f"{name}_gelu")(x)
    x = keras.layers.Dropout(0.5, name=f"{name}_dropout")(x)
    x = keras.layers.Dense(width, name=f"{name}_dense")(x)  # -> (H, W, C)
    # Layer scale: a 1x1 depthwise convolution is the fastest stock layer for a factor per channel.
    x = keras.layers.DepthwiseConv2D(
        1,
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(1e-6),
        data_format="channels_last",
        name=f"{name}_scale",
    )(x)
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def downscale(x, width, name):
    """Dense layer at full resolution, 2x2 max pool and layer norm."""
    x = keras.layers.Dense(width, name=f"{name}_dense")(x)
    x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"{name}_pool")(x)
    return keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)


def network(name, widths, num_classes, input_shape):
    """The net for three stage widths. The shapes in comments are those of `cifar10_tiny`."""
    inputs = keras.Input(input_shape, name="image")
    x = normalize(inputs, CIFAR10)
    x = keras.layers.Conv2D(
        widths[0], 4, padding="same", data_format="channels_last", name="stem_conv"
    )(x)
    x = keras.layers.LayerNormalization(epsilon=1e-3, name="stem_norm")(x)
    # (32, 32, 3) -> (32, 32, 32)
    for block in (1, 2):
        x = bottleneck(x, widths[0], 2, f"stage1_block{block}")
    x = downscale(x, widths[1], "downscale1")  # (32, 32, 32) -> (16, 16, 64)
    for block in (1, 2, 3, 4):
        x = bottleneck(x, widths[1], 4, f"stage2_block{block}")
    x = downscale(x, widths[2], "downscale2")  # (16, 16, 64) -> (8, 8, 128)
    for block in (1, 2):
        x = bottleneck(x, widths[2], 2, f"stage3_block{block}")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (8, 8, 128) -> (128,)
    x = keras.layers.LayerNormalization(epsilon=1e-3, name="head_norm")(x)
    x = keras.layers.ReLU(name="head_relu")(x)
    if num_classes:
        x = keras.layers.Dense(num_classes, dtype="float32", name="head_dense")(x)
    return keras.Model(inputs, x, name=name)


def cifar10_tiny(num_classes, input_shape):
    return network("cifar10_tiny", (32, 64, 128), num_classes, input_shape)


def cifar10_tiny_half(num_classes, input_shape):
    return network("cifar10_tiny_half", (16, 32, 64), num_classes, input_shape)
