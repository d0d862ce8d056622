"""The ResNets of He et al. for CIFAR, with projection shortcuts.

Paper: https://arxiv.org/abs/1512.03385. Rebuilt after the models of
https://github.com/chenyaofo/CIFAR-pretrained-models (BSD 3-clause). The nets can load the weights
of these models.

| net      | parameters | CIFAR-10 top-1 | CIFAR-100 top-1 | their later weights |
|----------|------------|----------------|-----------------|---------------------|
| resnet20 | 272,474    | 91.65%         | 66.61%          | 92.60%, 68.83%      |
| resnet32 | 466,906    | 92.81%         | 68.74%          | 93.53%, 70.16%      |
| resnet44 | 661,338    | 93.24%         | 69.49%          | 94.01%, 71.63%      |
| resnet56 | 855,770    | 93.69%         | 70.79%          | 94.37%, 72.63%      |

Parameters are for 10 classes. A net with 100 classes has 5,850 more. The images are normalized as
those of CIFAR-100 if the net has 100 classes, and as those of CIFAR-10 otherwise.
"""

import re

import keras

from tinyconv.nets.blocks import normalize

CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # mean, standard deviation
CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023))
BLOCKS = {
    "resnet20": 3,
    "resnet32": 5,
    "resnet44": 7,
    "resnet56": 9,
}  # number in each of the three stages


def conv(x, width, kernel, stride, name):
    if kernel == 3 and stride == 2:  # Keras' "same" pads only the bottom and the right
        x = keras.layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal"
        ),
        data_format="channels_last",
        name=name,
    )(x)


def norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def block(x, width, stride, name):
    """ReLU(x + BN(Conv(ReLU(BN(Conv(x)))))), with a projection of x if the stride is 2."""
    shortcut = x
    x = conv(x, width, 3, stride, f"{name}_conv1")
    x = norm(x, f"{name}_norm1")
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = conv(x, width, 3, 1, f"{name}_conv2")
    x = norm(x, f"{name}_norm2")
    if stride == 2:
        shortcut = conv(shortcut, width, 1, stride, f"{name}_shortcut_conv")
        shortcut = norm(shortcut, f"{name}_shortcut_norm")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_relu2")(x)


def network(name, num_classes, input_shape):
    """The net of a variant, with three stages of `BLOCKS[name]` blocks."""
    inputs = keras.Input(input_shape, name="image")
    x = normalize(inputs, CIFAR100 if num_classes == 100 else CIFAR10)
    x = conv(x, 16, 3, 1, "stem_conv")  # (32, 32, 3) -> (32, 32, 16)
    x = norm(x, "stem_norm")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, width in ((1, 16), (2, 32), (3, 64)):  # -> (16, 16, 32) -> (8, 8, 64)
        for number in range(1, BLOCKS[name] + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = block(x, width, stride, f"stage{stage}_block{number}")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="head_pool")(
        x
    )  # (8, 8, 64) -> (64,)
    if num_classes:
        x = keras.layers.Dense(num_classes, dtype="float32", name="head_dense")(x)
    return keras.Model(inputs, x, name=name)


def resnet20(num_classes, input_shape):
    return network("resnet20", num_classes, input_shape)


def resnet32(num_classes, input_shape):
    return network("resnet32", num_classes, input_shape)


def resnet44(num_classes, input_shape):
    return network("resnet44", num_classes, input_shape)


def resnet56(num_classes, input_shape):
    return network("resnet56", num_classes, input_shape)


def torch_key(key):
    """The authors' name of a tensor that imgclsmob (https://github.com/osmr/imgclsmob) names."""
    key = key.replace("features.init_block.conv", "conv1").replace("features.init_block.bn", "bn1")
    unit = re.match(r"features\.stage(\d)\.unit(\d)\.", key)
    if unit:
        stage, number = map(int, unit.groups())
        key = f"layer{stage}.{number - 1}." + key[unit.end() :]
    key = re.sub(r"body\.conv(\d)\.(conv|bn)", r"\2\1", key)
    key = key.replace("identity_conv.conv", "downsample.0").replace(
        "identity_conv.bn", "downsample.1"
    )
    return re.sub("^output", "fc", key)


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "bn1", "norm"
    for stage in (1, 2, 3):
        for number in range(BLOCKS[name]):
            block, key = f"stage{stage}_block{number + 1}", f"layer{stage}.{number}"
            for index in (1, 2):
                yield f"{block}_conv{index}", f"{key}.conv{index}", "conv"
                yield f"{block}_norm{index}", f"{key}.bn{index}", "norm"
            if stage > 1 and number == 0:
                yield f"{block}_shortcut_conv", f"{key}.downsample.0", "conv"
                yield f"{block}_shortcut_norm", f"{key}.downsample.1", "norm"
    yield "head_dense", "fc", "dense"
