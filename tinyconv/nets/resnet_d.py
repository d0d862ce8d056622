"""timm's tiny ResNet-D: a stem of three convolutions, and average pools in the shortcuts.

Paper: https://arxiv.org/abs/1812.01187. Rebuilt after timm (Apache-2.0). The net can load the
weights of https://huggingface.co/timm/test_resnet.r160_in1k.

| net         | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|-------------|------------|---------------------------|------------|
| test_resnet | 469,688    | 41.58%                    | 42.38%     |

Parameters are for 1000 classes. The accuracies are those that timm reports.
"""

import keras

from tinyconv.nets import blocks

STAGES = (  # the convolutions (width, kernel, stride) of each stage's only block
    ((32, 3, 1), (32, 3, 1)),
    ((48, 3, 2), (48, 3, 1)),  # (40, 40, 32) -> (20, 20, 48)
    ((48, 1, 1), (48, 3, 2), (192, 1, 1)),  # the only bottleneck, -> (10, 10, 192)
    ((96, 3, 2), (96, 3, 1)),  # -> (5, 5, 96)
)


def test_resnet(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.INCEPTION)
    # (160, 160, 3) -> (80, 80, 32)
    for number, (width, stride) in enumerate(((16, 2), (16, 1), (32, 1)), 1):
        x = blocks.conv(x, width, 3, stride, f"stem_conv{number}")
        x = blocks.batch_norm(x, f"stem_norm{number}")
        x = blocks.relu(x, f"stem_relu{number}")
    x = blocks.pad(x, 3, 2, "stem_pool")  # zeros do not change a maximum after a ReLU
    x = keras.layers.MaxPooling2D(3, strides=2, data_format="channels_last", name="stem_pool")(
        x
    )  # -> (40, 40, 32)
    for stage, convs in enumerate(STAGES, 1):
        x = blocks.residual(x, convs, f"stage{stage}_block1")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 96) -> (96,)
    limit = 96**-0.5
    start = keras.initializers.RandomUniform(-limit, limit)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name="test_resnet")


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    stem = ("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")
    for number, (conv, norm) in enumerate(stem, 1):
        yield f"stem_conv{number}", conv, "conv"
        yield f"stem_norm{number}", norm, "norm"
    for stage, convs in enumerate(STAGES, 1):
        block, key = f"stage{stage}_block1", f"layer{stage}.0"
        for number in range(1, len(convs) + 1):
            yield f"{block}_conv{number}", f"{key}.conv{number}", "conv"
            yield f"{block}_norm{number}", f"{key}.bn{number}", "norm"
        if stage > 1:
            yield f"{block}_shortcut_conv", f"{key}.downsample.1", "conv"
            yield f"{block}_shortcut_norm", f"{key}.downsample.2", "norm"
    yield "head_dense", "fc", "dense"
