"""timm's tiny ByobNet ("bring your own blocks"): four kinds of residual block, one per stage.

Rebuilt after timm (Apache-2.0), https://huggingface.co/timm/test_byobnet.r160_in1k, whose weights
it takes.

| net          | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|--------------|------------|---------------------------|------------|
| test_byobnet | 456,856    | 45.85%                    | 46.69%     |

Parameters are for 1000 classes, accuracies are timm's own.
"""

import keras

from tinyconv.nets import blocks


def test_byobnet(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.IMAGENET)
    x = blocks.conv(x, 24, 3, 2, "stem_conv")  # (160, 160, 3) -> (80, 80, 24)
    x = blocks.batch_norm(x, "stem_norm")
    x = blocks.relu(x, "stem_relu")
    # An edge block, -> (40, 40, 32)
    x = blocks.residual(x, ((16, 3, 2), (32, 1, 1)), "stage1_block1", excite=1, hidden=8)
    # A dark block, -> (20, 20, 64)
    x = blocks.residual(x, ((32, 1, 1), (64, 3, 2)), "stage2_block1", excite=2, hidden=16)
    # A basic block, -> (10, 10, 128)
    x = blocks.residual(x, ((32, 3, 2), (128, 3, 1)), "stage3_block1", excite=2, hidden=32)
    # A bottleneck, -> (5, 5, 256)
    convs = (64, 1, 1), (64, 3, 2), (256, 1, 1)
    x = blocks.residual(x, convs, "stage4_block1", excite=2, hidden=16)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 256) -> (256,)
    start = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name="test_byobnet")
