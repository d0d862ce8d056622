"""timm's tiny ConvNeXts: large depthwise convolutions, and an MLP that mixes the channels.

Paper: https://arxiv.org/abs/2201.03545. Rebuilt after timm (Apache-2.0). The nets can load the
weights of https://huggingface.co/timm.

| net            | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|----------------|------------|---------------------------|------------|
| test_convnext  | 272,128    | 47.76%                    | 48.53%     |
| test_convnext2 | 477,800    | 53.51%                    | 53.62%     |
| test_convnext3 | 468,840    | 53.33%                    | 54.56%     |

Parameters are for 1000 classes. The accuracies are those that timm reports.
"""

import keras
from keras import ops

from tinyconv.nets import blocks


def start():
    return keras.initializers.RandomNormal(stddev=0.02)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def patches(x, width, size, name):
    """A vector of `width` for each patch of `size` x `size` pixels, without incomplete patches."""
    return keras.layers.Conv2D(
        width,
        size,
        strides=size,
        kernel_initializer=start(),
        data_format="channels_last",
        name=name,
    )(x)


def block(x, kernel, activation, name):
    """x + scale * Dense(activation(Dense(LayerNorm(DepthwiseConv(x))))), with 4C hidden units."""
    shortcut, width = x, x.shape[-1]
    x = keras.layers.DepthwiseConv2D(
        kernel,
        padding="same",
        depthwise_initializer=start(),
        data_format="channels_last",
        name=f"{name}_dwconv",
    )(x)
    x = norm(x, f"{name}_norm")
    x = keras.layers.Dense(4 * width, kernel_initializer=start(), name=f"{name}_expand")(x)
    x = activation(x)
    x = keras.layers.Dense(width, kernel_initializer=start(), name=f"{name}_project")(x)
    # Layer scale: a 1x1 depthwise convolution is the fastest stock layer for a factor per channel.
    x = keras.layers.DepthwiseConv2D(
        1,
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(1e-6),
        data_format="channels_last",
        name=f"{name}_scale",
    )(x)
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def gelu_tanh(x):
    return ops.gelu(x, approximate=True)


VARIANTS = {  # number of blocks, width and kernel size of each of four stages; the activation
    "test_convnext": ((1, 2, 4, 2), (24, 32, 48, 64), (7, 7, 7, 7), gelu_tanh),
    "test_convnext2": ((1, 1, 1, 1), (32, 64, 96, 128), (7, 7, 7, 7), gelu_tanh),
    "test_convnext3": ((1, 1, 1, 1), (32, 64, 96, 128), (7, 5, 5, 3), ops.silu),
}


def network(name, num_classes, input_shape):
    """The net of a variant. The shapes in comments are those of `test_convnext2` at 160x160."""
    depths, widths, kernels, activation = VARIANTS[name]
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.INCEPTION)
    x = patches(x, widths[0], 4, "stem_conv")  # (160, 160, 3) -> (40, 40, 32)
    x = norm(x, "stem_norm")
    for stage, (depth, width, kernel) in enumerate(zip(depths, widths, kernels, strict=True), 1):
        if stage > 1:  # -> (20, 20, 64) -> (10, 10, 96) -> (5, 5, 128)
            x = norm(x, f"downscale{stage - 1}_norm")
            x = patches(x, width, 2, f"downscale{stage - 1}_conv")
        for number in range(1, depth + 1):
            x = block(x, kernel, activation, f"stage{stage}_block{number}")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 128) -> (128,)
    x = norm(x, "head_norm")
    return keras.Model(inputs, blocks.classifier(x, num_classes, start()), name=name)


def test_convnext(*size):
    return network("test_convnext", *size)


def test_convnext2(*size):
    return network("test_convnext2", *size)


def test_convnext3(*size):
    return network("test_convnext3", *size)


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    yield "stem_conv", "stem.0", "conv"
    yield "stem_norm", "stem.1", "norm"
    depths, *_ = VARIANTS[name]
    for stage, depth in enumerate(depths):
        if stage:
            yield f"downscale{stage}_norm", f"stages.{stage}.downsample.0", "norm"
            yield f"downscale{stage}_conv", f"stages.{stage}.downsample.1", "conv"
        for number in range(depth):
            block, key = f"stage{stage + 1}_block{number + 1}", f"stages.{stage}.blocks.{number}"
            yield f"{block}_dwconv", f"{key}.conv_dw", "depthwise"
            yield f"{block}_norm", f"{key}.norm", "norm"
            yield from blocks.mlp_names(block, f"{key}.mlp")
            yield f"{block}_scale", f"{key}.gamma", "factor"
    yield "head_norm", "head.norm", "norm"
    yield "head_dense", "head.fc", "dense"
