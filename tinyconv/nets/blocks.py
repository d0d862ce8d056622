"""Blocks of several families: normalization of images, padding, squeeze-and-excitation, the head.

Source: https://github.com/huggingface/pytorch-image-models (timm, Apache-2.0).
"""

import keras

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, standard deviation
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def normalize(x, mean_std):
    """Normalize raw RGB in 0..255 (B, H, W, 3) by the mean and standard deviation per channel.

    `mean_std` holds both for images in 0..1.
    """
    scale, offset = constants(mean_std)
    return keras.layers.Rescaling(scale, offset, name="normalize")(x)


def constants(mean_std):
    """The scale and the offset of the layer of `normalize`."""
    mean, std = mean_std
    # Three axes each: with channels_first, Keras transposes a scale of one axis, and Keras 3.11
    # takes the lengths of the outer lists for numbers of channels.
    scale = [[[1 / (255 * s) for s in std]]]
    return scale, [[[-m / s for m, s in zip(mean, std, strict=True)]]]


def normal(fan):
    """He's initializer for `fan` weights per unit: normal, with variance 2 / fan."""
    return keras.initializers.RandomNormal(stddev=(2 / fan) ** 0.5)


def pad(x, kernel, stride, name):
    """PyTorch's padding of a strided 3x3 window: one pixel on every side.

    Keras' "same" pads only the bottom and the right.
    """
    if stride == 1 or kernel == 1:
        return x
    return keras.layers.ZeroPadding2D(kernel // 2, data_format="channels_last", name=f"{name}_pad")(
        x
    )


def conv(x, width, kernel, stride, name):
    """A convolution without bias: (H, W) -> (H / stride, W / stride), rounded up."""
    x = pad(x, kernel, stride, name)
    return keras.layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=normal(kernel * kernel * width),
        data_format="channels_last",
        name=name,
    )(x)


def dwconv(x, kernel, stride, name):
    """A depthwise convolution without bias, with the padding of `conv`."""
    x = pad(x, kernel, stride, name)
    return keras.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        depthwise_initializer=normal(kernel * kernel),
        data_format="channels_last",
        name=name,
    )(x)


def halve(x, name):
    """The mean of each 2x2 pixels. At the border of an odd size, of the pixels inside the image."""
    return keras.layers.AveragePooling2D(2, padding="same", data_format="channels_last", name=name)(
        x
    )


def batch_norm(x, name, gamma="ones"):
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name
    )(x)


def relu(x, name):
    return keras.layers.ReLU(name=name)(x)


def residual(x, convs, name, excite=None, hidden=None):
    """A residual block: ReLU(x + convolutions(x)), with a batch norm after each convolution.

    If the convolutions change the shape, the shortcut is a 2x2 average pool and a 1x1 convolution.

    Args:
        x: the input.
        convs: (width, kernel, stride) of each convolution.
        name: the beginning of the names of all layers.
        excite: the number of the convolution before the squeeze-and-excitation, counted from 1.
            Default: no squeeze-and-excitation.
        hidden: the number of hidden channels of the squeeze-and-excitation.
    """
    shortcut, before = x, x.shape[1:]
    for number, (width, kernel, stride) in enumerate(convs, 1):
        last = number == len(convs)
        x = conv(x, width, kernel, stride, f"{name}_conv{number}")
        x = batch_norm(x, f"{name}_norm{number}", gamma="zeros" if last else "ones")
        if not last:
            x = relu(x, f"{name}_relu{number}")
        if number == excite:
            x = squeeze_excite(x, hidden, "relu", lambda _, out: normal(out), f"{name}_se")
    if x.shape[1:] != before:
        if x.shape[1:3] != before[:2]:
            shortcut = halve(shortcut, f"{name}_shortcut_pool")
        shortcut = conv(shortcut, x.shape[-1], 1, 1, f"{name}_shortcut_conv")
        shortcut = batch_norm(shortcut, f"{name}_shortcut_norm")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return relu(x, f"{name}_relu")


def squeeze_excite(x, hidden, activation, initializer, name):
    """Squeeze-and-excitation: x times a gate in 0..1 per channel.

    Two dense layers compute the gates from the mean of each channel over all pixels. The function
    `initializer(fan_in, fan_out)` returns the initializer of a kernel.
    Paper: https://arxiv.org/abs/1709.01507.
    """
    width = x.shape[-1]
    gate = keras.layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name=f"{name}_pool"
    )(x)
    gate = keras.layers.Dense(
        hidden,
        activation=activation,
        kernel_initializer=initializer(width, hidden),
        name=f"{name}_reduce",
    )(gate)  # (1, 1, C) -> (1, 1, hidden)
    gate = keras.layers.Dense(
        width,
        activation="sigmoid",
        kernel_initializer=initializer(hidden, width),
        name=f"{name}_expand",
    )(gate)  # -> (1, 1, C)
    return keras.layers.Multiply(name=f"{name}_gate")([x, gate])


def squeeze_excite_names(name, key, convs=("fc1", "fc2")):
    """Yield the layers of `squeeze_excite` for the function `torch_names` of a net."""
    yield f"{name}_reduce", f"{key}.{convs[0]}", "pointwise"
    yield f"{name}_expand", f"{key}.{convs[1]}", "pointwise"


def mlp_names(name, key):
    """Yield the two dense layers of an MLP for the function `torch_names` of a net."""
    yield f"{name}_expand", f"{key}.fc1", "dense"
    yield f"{name}_project", f"{key}.fc2", "dense"


def classifier(x, num_classes, initializer):
    """The dense layer of the logits, in float32 also in mixed precision.

    Without classes, the result is x itself.
    """
    if not num_classes:
        return x
    return keras.layers.Dense(
        num_classes, kernel_initializer=initializer, dtype="float32", name="head_dense"
    )(x)
