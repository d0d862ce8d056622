"""timm's tiny EfficientNets: one net with batch norm, group norm, layer norm or EvoNorm.

Papers: https://arxiv.org/abs/1905.11946, https://arxiv.org/abs/2104.00298 (version 2, with
fused blocks in the first stages) and https://arxiv.org/abs/2004.02967 (EvoNorm-S0). Rebuilt after
timm (Apache-2.0). The nets can load the weights of https://huggingface.co/timm.

| net                    | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|------------------------|------------|---------------------------|------------|
| test_efficientnet      | 356,196    | 46.45%                    | 47.16%     |
| test_efficientnet_evos | 357,292    | 46.50%                    | 46.92%     |
| test_efficientnet_gn   | 356,196    | 43.88%                    | 44.45%     |
| test_efficientnet_ln   | 356,196    | 43.92%                    | 44.54%     |

Parameters are for 1000 classes. The accuracies are those that timm reports. Each norm is a function
`norm(x, active, name)`. If `active` is true, the function also applies the activation.
"""

import keras
from keras import ops

from tinyconv.nets import blocks

GROUP = 8  # channels per group of group norm and EvoNorm


def silu(x, active, name):
    return keras.layers.Activation("silu", name=f"{name}_silu")(x) if active else x


def batch_norm(x, active, name):
    return silu(blocks.batch_norm(x, name), active, name)


def group_norm(x, active, name):
    groups = x.shape[-1] // GROUP
    x = keras.layers.GroupNormalization(groups, epsilon=1e-5, name=name)(x)
    return silu(x, active, name)


def layer_norm(x, active, name):
    x = keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)
    return silu(x, active, name)


def evo_norm(x, active, name):
    """scale * x * sigmoid(slope * x) / deviation + shift if `active`, else scale * x + shift.

    The deviation is that of all pixels and a group of channels. The other factors are per channel.
    """
    if active:
        height, width, channels = x.shape[1:]
        slope = keras.layers.DepthwiseConv2D(
            1,
            use_bias=False,
            depthwise_initializer="ones",
            data_format="channels_last",
            name=f"{name}_slope",
        )(x)
        gate = keras.layers.Activation("sigmoid", name=f"{name}_gate")(slope)
        grouped = (height, width, channels // GROUP, GROUP)
        groups = keras.layers.Reshape(grouped, name=f"{name}_group")(x)
        deviation = ops.sqrt(ops.var(groups, axis=(1, 2, 4), keepdims=True) + 1e-5)
        x = keras.layers.Multiply(name=f"{name}_gated")([x, gate])
        x = keras.layers.Reshape(grouped, name=f"{name}_gated_group")(x) / deviation
        x = keras.layers.Reshape((height, width, channels), name=f"{name}_ungroup")(x)
    return keras.layers.DepthwiseConv2D(
        1, depthwise_initializer="ones", data_format="channels_last", name=f"{name}_affine"
    )(x)


def fused(x, width, norm, name):
    """A strided 3x3 convolution that widens, and a 1x1 convolution that narrows."""
    x = blocks.conv(x, 4 * x.shape[-1], 3, 2, f"{name}_expand")
    x = norm(x, True, f"{name}_norm1")
    x = blocks.conv(x, width, 1, 1, f"{name}_project")
    return norm(x, False, f"{name}_norm2")


def inverted(x, width, norm, name):
    """An inverted bottleneck.

    A 1x1 convolution that widens, a strided depthwise convolution, squeeze-and-excitation, and a
    1x1 convolution that narrows.
    """
    before = x.shape[-1]
    x = blocks.conv(x, 4 * before, 1, 1, f"{name}_expand")
    x = norm(x, True, f"{name}_norm1")
    x = blocks.dwconv(x, 3, 2, f"{name}_dwconv")
    x = norm(x, True, f"{name}_norm2")
    x = blocks.squeeze_excite(
        x, before // 4, "silu", lambda fan_in, fan_out: blocks.normal(fan_out), f"{name}_se"
    )
    x = blocks.conv(x, width, 1, 1, f"{name}_project")
    return norm(x, False, f"{name}_norm3")


VARIANTS = {  # the norm; mean and standard deviation for the normalization of images
    "test_efficientnet": (batch_norm, blocks.IMAGENET),
    "test_efficientnet_evos": (evo_norm, blocks.INCEPTION),
    "test_efficientnet_gn": (group_norm, blocks.INCEPTION),
    "test_efficientnet_ln": (layer_norm, blocks.IMAGENET),
}


def network(name, num_classes, input_shape):
    """The net of a variant. The shapes in comments are those at 160x160."""
    norm, mean_std = VARIANTS[name]
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, mean_std)
    x = blocks.conv(x, 24, 3, 2, "stem_conv")  # (160, 160, 3) -> (80, 80, 24)
    x = norm(x, True, "stem_norm")
    x = blocks.conv(x, 16, 3, 1, "stage1_block1_conv")
    x = norm(x, True, "stage1_block1_norm1")
    x = fused(x, 24, norm, "stage2_block1")  # (80, 80, 16) -> (40, 40, 24)
    x = fused(x, 32, norm, "stage3_block1")  # -> (20, 20, 32)
    x = inverted(x, 48, norm, "stage4_block1")  # -> (10, 10, 48)
    x = inverted(x, 64, norm, "stage5_block1")  # -> (5, 5, 64)
    x = blocks.conv(x, 256, 1, 1, "head_conv")
    x = norm(x, True, "head_norm")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 256) -> (256,)
    limit = max(num_classes, 1) ** -0.5
    start = keras.initializers.RandomUniform(-limit, limit)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name=name)


def test_efficientnet(*size):
    return network("test_efficientnet", *size)


def test_efficientnet_evos(*size):
    return network("test_efficientnet_evos", *size)


def test_efficientnet_gn(*size):
    return network("test_efficientnet_gn", *size)


def test_efficientnet_ln(*size):
    return network("test_efficientnet_ln", *size)


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    norm, _ = VARIANTS[name]
    yield "stem_conv", "conv_stem", "conv"
    yield from norm_names(norm, "stem_norm", "bn1")
    fused = {"expand": "conv_exp", "project": "conv_pwl"}
    inverted = {"expand": "conv_pw", "dwconv": "conv_dw", "project": "conv_pwl"}
    for stage, convs in enumerate(({"conv": "conv"}, fused, fused, inverted, inverted)):
        block, key = f"stage{stage + 1}_block1", f"blocks.{stage}.0"
        for number, (layer, conv) in enumerate(convs.items(), 1):
            layout = "depthwise" if layer == "dwconv" else "conv"
            yield f"{block}_{layer}", f"{key}.{conv}", layout
            yield from norm_names(norm, f"{block}_norm{number}", f"{key}.bn{number}")
        if "dwconv" in convs:
            names = "conv_reduce", "conv_expand"
            yield from blocks.squeeze_excite_names(f"{block}_se", f"{key}.se", names)
    yield "head_conv", "conv_head", "conv"
    yield from norm_names(norm, "head_norm", "bn2")
    yield "head_dense", "classifier", "dense"


def norm_names(norm, layer, key):
    """Yield the layer of a norm, or the two layers with weights of EvoNorm, for `torch_names`."""
    if norm is evo_norm:
        yield f"{layer}_slope", f"{key}.v", "factor"
        yield f"{layer}_affine", key, "affine"
    else:
        yield layer, key, "norm"
