"""timm's tiny ByobNet ("bring your own blocks"): four kinds of residual block, one per stage.

Rebuilt after timm (Apache-2.0). The net can load the weights of
https://huggingface.co/timm/test_byobnet.r160_in1k.

| net          | parameters | ImageNet top-1 at 160x160 | at 192x192 |
|--------------|------------|---------------------------|------------|
| test_byobnet | 456,856    | 45.85%                    | 46.69%     |

Parameters are for 1000 classes. The accuracies are those that timm reports.
"""

import keras

from tinyconv.nets import blocks

# A stage's convolutions (width, kernel, stride), and `excite` and `hidden` of `blocks.residual`.
STAGES = (
    (((16, 3, 2), (32, 1, 1)), 1, 8),  # an edge block, (80, 80, 24) -> (40, 40, 32)
    (((32, 1, 1), (64, 3, 2)), 2, 16),  # a dark block, -> (20, 20, 64)
    (((32, 3, 2), (128, 3, 1)), 2, 32),  # a basic block, -> (10, 10, 128)
    (((64, 1, 1), (64, 3, 2), (256, 1, 1)), 2, 16),  # a bottleneck, -> (5, 5, 256)
)


def test_byobnet(num_classes, input_shape):
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.IMAGENET)
    x = blocks.conv(x, 24, 3, 2, "stem_conv")  # (160, 160, 3) -> (80, 80, 24)
    x = blocks.batch_norm(x, "stem_norm")
    x = blocks.relu(x, "stem_relu")
    for stage, (convs, excite, hidden) in enumerate(STAGES, 1):
        x = blocks.residual(x, convs, f"stage{stage}_block1", excite, hidden)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (5, 5, 256) -> (256,)
    start = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start), name="test_byobnet")


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    yield "stem_conv", "stem.conv", "conv"
    yield "stem_norm", "stem.bn", "norm"
    for stage, (convs, excite, _) in enumerate(STAGES, 1):
        block, key = f"stage{stage}_block1", f"stages.{stage - 1}.0"
        for number, (_, kernel, _) in enumerate(convs, 1):
            conv = f"{key}.conv{number}_{'1x1' if kernel == 1 else 'kxk'}"
            yield f"{block}_conv{number}", f"{conv}.conv", "conv"
            yield f"{block}_norm{number}", f"{conv}.bn", "norm"
        attention = "attn_last" if excite == len(convs) else "attn"
        yield from blocks.squeeze_excite_names(f"{block}_se", f"{key}.{attention}")
        yield f"{block}_shortcut_conv", f"{key}.shortcut.conv.conv", "conv"
        yield f"{block}_shortcut_norm", f"{key}.shortcut.conv.bn", "norm"
    yield "head_dense", "head.fc", "dense"
