"""timm's tiny ResNet-D: a stem of three convolutions, and shortcuts that skip no pixel.

Paper: https://arxiv.org/abs/1812.01187. Rebuilt after timm (Apache-2.0),
https://huggingface.co/timm/test_resnet.r160_in1k, whose weights it takes.

| net         | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|-------------|------------|---------------------------|------------|
| test_resnet | 469,688    | 41.58%                    | 42.38%     |

Parameters are for 1000 classes, accuracies are timm's own.
"""

import keras

from tinyconv.nets import blocks


def test_resnet(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.INCEPTION)
    # (160, 160, 3) -> (80, 80, 32)
    for number, (width, stride) in enumerate(((16, 2), (16, 1), (32, 1)), 1):
        x = blocks.conv(x, width, 3, stride, f"stem_conv{number}")
        x = blocks.batch_norm(x, f"stem_norm{number}")
        x = blocks.relu(x, f"stem_relu{number}")
    x = blocks.pad(x, 3, 2, "stem_pool")  # zeros, which are never the largest alone after a ReLU
    x = keras.layers.MaxPooling2D(3, strides=2, data_format="channels_last", name="stem_pool")(
        x
    )  # -> (40, 40, 32)
    x = blocks.residual(x, ((32, 3, 1), (32, 3, 1)), "stage1_block1")
    x = blocks.residual(x, ((48, 3, 2), (48, 3, 1)), "stage2_block1")  # -> (20, 20, 48)
    # The only bottleneck, -> (10, 10, 192)
    x = blocks.residual(x, ((48, 1, 1), (48, 3, 2), (192, 1, 1)), "stage3_block1")
    x = blocks.residual(x, ((96, 3, 2), (96, 3, 1)), "stage4_block1")  # -> (5, 5, 96)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 96) -> (96,)
    limit = 96**-0.5
    start = keras.initializers.RandomUniform(-limit, limit)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name="test_resnet")
