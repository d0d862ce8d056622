"""Building a net by name, with random or pretrained weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv import collector, hub, registry, saving, weights
from tinyconv.errors import InputError
from tinyconv.facts import Net

if TYPE_CHECKING:
    import keras


@collector.paused()
def create_model(
    name: str,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pretrained: bool | str | Path = False,
) -> keras.Model:
    """Build a net by name, with random or pretrained weights.

    Args:
        name: one of `list_models()`, or one of `list_models(pretrained=True)` with the tag of
            weights, such as "resnet56.chenyaofo_c100". A name hf://USER/NAME stands for a trained
            model on the Hub, which is opened as it is.
        num_classes: the number of logits. A net with 0 classes has no head and returns the pooled
            features. Default: as in the weights, or else as in the net's source.
        input_shape: (height, width, 3) of the images. Default: as in the net's source.
        pretrained: True for the weights that the name has a tag of. Without a tag, they are those
            that ship with tinyconv, with their dropout rates, or else the first that are published.
            Published weights are downloaded to the cache of Keras. A path for a weight file of the
            PyTorch original, in a format that `tinyconv.weights.read` supports. The head of weights
            with another number of classes is not loaded. Default: random weights.

    Returns:
        A functional model from raw RGB images in 0..255 to logits. The images have the shape
        (batch, height, width, 3) and any integer or float type. The logits have the shape
        (batch, num_classes). The model contains the normalization of the images.

    Raises:
        InputError: the name, the number of classes, the shape or the file cannot be used; there
            are no weights for the net; the weights cannot be downloaded; or their file has another
            digest.

    Example:

    ```python
    net = tinyconv.create_model("cifar10_tiny", num_classes=5, input_shape=(48, 48, 3))
    trained = tinyconv.create_model("tiniest", pretrained=True)
    ```
    """
    if hub.is_address(name):
        if (num_classes, input_shape) != (None, None) or not isinstance(pretrained, bool):
            raise InputError(
                f"{name} is opened as it is, without num_classes, input_shape or a file of weights."
            )
        from tinyconv import trained

        return trained.open_model(name).model
    net = registry.get(name)
    published = registry.published(name) if pretrained is True else registry.weights(name)
    saving.check_floatx()
    source, state = None, None
    known: int | None = published.num_classes if published else net.num_classes
    if pretrained is True and not published:
        from tinyconv import trained

        source = saving.load_model(trained.path(net.name))
        known = source.output_shape[-1]
    elif pretrained is True:
        from tinyconv.weights import fetch

        assert published
        pretrained = fetch.weights(net.name, published)
        state = weights.read(pretrained)
        known = weights.num_classes(net.name, state)
    elif isinstance(pretrained, str | Path):
        state = weights.read(Path(pretrained))
        known = weights.num_classes(net.name, state)
    if num_classes is None:
        if known is None:
            raise InputError(
                f"{pretrained} has no head of {name}; give num_classes: 0 for a net without a "
                "head, or the number of classes of a new one."
            )
        num_classes = known
    shape = _checked(net, num_classes, net.input_shape if input_shape is None else input_shape)
    model = _build(net, int(num_classes), shape)
    if source:
        for layer in model.layers:
            if layer.name != "head_dense" or known == num_classes:
                layer.set_weights(source.get_layer(layer.name).get_weights())
        _take_constants(model, source)
    elif state is not None:
        if known not in (None, num_classes):
            _take_constants(model, _build(net, known, shape))
        (weights.load_torch if known == num_classes else weights.load_body)(model, state)
        if known is None and num_classes:
            print(f"{pretrained}: a new head, since the file has none", file=sys.stderr)
        if published and published.mean_std:
            _normalize_by(model, published.mean_std)
    return model


def _checked(net: Net, num_classes: int, shape: Any) -> tuple[int, int, int]:
    """Check `num_classes` and `shape`, and return `shape` as integers.

    Raises:
        InputError: `net` cannot be built for these values.
    """
    if not isinstance(num_classes, Integral) or num_classes < 0:
        raise InputError(f"num_classes is {num_classes!r}; it must be 0 (no head) or more.")
    sides = tuple(shape) if isinstance(shape, Sequence) else ()
    if not all(isinstance(n, Integral) and n > 0 for n in sides) or sides[2:] != (3,):
        raise InputError(f"input_shape is {shape!r}; it must be (height, width, 3).")
    height, width, channels = map(int, sides)
    if min(height, width) < net.smallest or height % net.multiple or width % net.multiple:
        rule = f"multiples of {net.multiple}" if net.multiple > 1 else f"{net.smallest} or more"
        raise InputError(f"input_shape is {shape}; height and width of {net.name} must be {rule}.")
    return height, width, channels


def _build(net: Net, num_classes: int, shape: tuple[int, int, int]) -> keras.Model:
    """Build the net with random weights.

    Raises:
        InputError: images of this size are too small for the net.
    """
    try:
        return getattr(net.module(), net.name)(num_classes, shape)
    except ValueError as error:
        height, width, _ = net.input_shape
        raise InputError(
            f"{net.name} cannot be built for images of {shape[0]}x{shape[1]}; "
            f"its own are {height}x{width}."
        ) from error


def _normalize_by(model: keras.Model, mean_std: tuple) -> None:
    """Normalize the images by the constants that some weights expect."""
    from tinyconv.nets.blocks import constants

    layer = model.get_layer("normalize")
    layer.scale, layer.offset = constants(mean_std)


def _take_constants(model: keras.Model, trained: keras.Model) -> None:
    """Copy the normalization and the dropout rates of a trained model. They are not weights."""
    for layer in model.layers:
        own = ("scale", "offset") if layer.name == "normalize" else ("rate",)
        for attribute in own:
            if hasattr(layer, attribute):
                setattr(layer, attribute, getattr(trained.get_layer(layer.name), attribute))
