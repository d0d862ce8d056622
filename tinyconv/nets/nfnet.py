"""timm's tiny NFNet: no normalization layers, but convolutions with standardized kernels.

Paper: https://arxiv.org/abs/2102.06171. Rebuilt after timm (Apache-2.0). The net can load the
weights of https://huggingface.co/timm/test_nfnet.r160_in1k.

| net        | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|------------|------------|---------------------------|------------|
| test_nfnet | 383,080    | 47.62%                    | 48.30%     |

Parameters are for 1000 classes. The accuracies are those that timm reports.
"""

import keras

from tinyconv.layers import StandardizedConv2D
from tinyconv.nets import blocks

SILU = 1.7881293296813965  # the SiLU of normal noise has a standard deviation of 1 / SILU
ALPHA = 0.2  # the factor of a block's residual branch
GROUP = 8  # channels per group of the 3x3 convolutions
STEM = ((16, 2), (32, 1), (64, 1), (128, 2))  # width and stride of the stem's convolutions
WIDTHS = (32, 64, 96, 128)  # of the stages, which have one block each


def conv(x, width, kernel, stride, name, group=None, gain="ones"):
    before = x.shape[-1]
    x = blocks.pad(x, kernel, stride, name)
    return StandardizedConv2D(
        width,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        groups=before // group if group else 1,
        scale=SILU,
        kernel_initializer=keras.initializers.VarianceScaling(
            1.0, mode="fan_in", distribution="untruncated_normal"
        ),
        gain_initializer=gain,
        data_format="channels_last",
        name=name,
    )(x)


def silu(x, name):
    return keras.layers.Activation("silu", name=name)(x)


def excite_initializer(fan_in, fan_out):
    return keras.initializers.RandomNormal(stddev=fan_in**-0.5)


def block(x, width, stride, variance, name):
    """shortcut + ALPHA * 2 * SqueezeExcite(four convolutions of x).

    The gain of the last convolution is initialized with zeros. `variance` is the variance of x at
    initialization, by which x is scaled to variance 1.
    """
    middle = width // 4
    x = silu(x, f"{name}_silu1")
    x = keras.layers.Rescaling(variance**-0.5, name=f"{name}_beta")(x)
    shortcut = blocks.halve(x, f"{name}_shortcut_pool") if stride == 2 else x
    shortcut = conv(shortcut, width, 1, 1, f"{name}_shortcut_conv")
    x = conv(x, middle, 1, 1, f"{name}_conv1")
    x = silu(x, f"{name}_silu2")
    x = conv(x, middle, 3, stride, f"{name}_conv2", GROUP)
    x = silu(x, f"{name}_silu3")
    x = conv(x, middle, 3, 1, f"{name}_conv3", GROUP)
    x = silu(x, f"{name}_silu4")
    x = conv(x, width, 1, 1, f"{name}_conv4", gain="zeros")
    x = blocks.squeeze_excite(x, middle, "relu", excite_initializer, f"{name}_se")
    x = keras.layers.Rescaling(2 * ALPHA, name=f"{name}_alpha")(x)
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def test_nfnet(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.INCEPTION)
    for number, (width, stride) in enumerate(STEM, 1):
        x = silu(x, f"stem_silu{number}") if number > 1 else x
        x = conv(x, width, 3, stride, f"stem_conv{number}")  # (160, 160, 3) -> ... -> (40, 40, 128)
    for stage, width in enumerate(WIDTHS, 1):  # -> (40, 40, 32) -> ... -> (5, 5, 128)
        stride, variance = (1, 1.0) if stage == 1 else (2, 1 + ALPHA**2)
        x = block(x, width, stride, variance, f"stage{stage}_block1")
    x = conv(x, 192, 1, 1, "head_conv")
    x = silu(x, "head_silu")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 192) -> (192,)
    start = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name="test_nfnet")


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    for number in range(1, len(STEM) + 1):
        yield f"stem_conv{number}", f"stem.conv{number}", "conv"
    for stage in range(1, len(WIDTHS) + 1):
        block, key = f"stage{stage}_block1", f"stages.{stage - 1}.0"
        yield f"{block}_shortcut_conv", f"{key}.downsample.conv", "conv"
        for number, conv in enumerate(("conv1", "conv2", "conv2b", "conv3"), 1):
            yield f"{block}_conv{number}", f"{key}.{conv}", "conv"
        yield from blocks.squeeze_excite_names(f"{block}_se", f"{key}.attn_last")
    yield "head_conv", "final_conv", "conv"
    yield "head_dense", "head.fc", "dense"
