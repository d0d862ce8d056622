"""Which nets there are, and what is known of each without building it."""

from __future__ import annotations

import fnmatch
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.errors import InputError, unknown

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Net:
    """What is known of a net, for its default number of classes and input shape.

    `family` is the module under `tinyconv.nets` whose function `name` builds the net.
    `parameters` and `macs` (multiply-adds of one image, convolutions and matrix products by
    their weights alone) are exact; `recipe` names an entry of `tinyconv.recipes.RECIPES`.
    Height and width of an image are at least `smallest`, and multiples of `multiple`. Published
    weights expect images resized by `interpolation` to `input_shape` / `crop`, and then cropped.
    """

    name: str
    family: str
    parameters: int
    macs: int
    recipe: str
    source: str
    licence: str
    num_classes: int = 10
    input_shape: tuple[int, int, int] = (32, 32, 3)
    smallest: int = 1
    multiple: int = 1
    interpolation: str = "bicubic"
    crop: float = 1.0

    def preparation(self) -> str:
        """How the source prepares an image for its weights, in a sentence."""
        height, width, _ = self.input_shape
        steps = f"resized to {int(height / self.crop)} ({self.interpolation}), cropped"
        return (
            f"Images: raw RGB in 0..255, {steps if self.crop < 1 else 'resized'} to "
            f"{height}x{width}; normalization is inside."
        )


_cifar10_tiny = partial(
    Net,
    family="cifar10_tiny",
    recipe="cifar10_tiny",
    source="https://github.com/soyflourbread/cifar10-tiny",
    licence="MIT",
)

_resnet = partial(
    Net,
    family="resnet",
    recipe="resnet",
    source="https://github.com/chenyaofo/CIFAR-pretrained-models",
    licence="BSD-3-Clause",
)


def _timm(name: str, family: str, parameters: int, macs: int, **more: Any) -> Net:
    return Net(
        name,
        family,
        parameters,
        macs,
        recipe="timm",
        source=f"https://huggingface.co/timm/{name}.r160_in1k",
        licence="Apache-2.0",
        num_classes=1000,
        input_shape=(160, 160, 3),
        crop=0.95,
        **more,
    )


NETS = {
    net.name: net
    for net in (
        _cifar10_tiny("cifar10_tiny", parameters=170_282, macs=34_768_128),
        _cifar10_tiny("cifar10_tiny_half", parameters=48_794, macs=10_044_032),
        Net(
            "tiniest",
            family="tiniest",
            parameters=97_530,
            macs=43_878_176,
            recipe="tiniest",
            source="https://github.com/xvel/cifar10-tiniest",
            licence="none given; rebuilt from a description",
        ),
        _resnet("resnet20", parameters=272_474, macs=40_813_184),
        _resnet("resnet32", parameters=466_906, macs=69_124_736),
        _resnet("resnet44", parameters=661_338, macs=97_436_288),
        _resnet("resnet56", parameters=855_770, macs=125_747_840),
        _timm("test_byobnet", "byobnet", 456_856, 31_142_144),
        _timm("test_convnext", "convnext", 272_128, 31_228_800, smallest=32),
        _timm("test_convnext2", "convnext", 477_800, 50_803_200, smallest=32),
        _timm("test_convnext3", "convnext", 468_840, 49_830_400, smallest=32),
        _timm("test_efficientnet", "efficientnet", 356_196, 57_304_256),
        _timm("test_efficientnet_evos", "efficientnet", 357_292, 57_304_256),
        _timm("test_efficientnet_gn", "efficientnet", 356_196, 57_304_256),
        _timm("test_efficientnet_ln", "efficientnet", 356_196, 57_304_256),
        _timm("test_nfnet", "nfnet", 383_080, 285_058_560),
        _timm("test_resnet", "resnet_d", 469_688, 102_547_200, interpolation="bilinear"),
        _timm("test_vit", "vit", 371_240, 29_800_960, multiple=16),
        _timm("test_vit2", "vit", 455_720, 38_074_880, multiple=16),
        _timm("test_vit3", "vit", 930_280, 76_404_480, multiple=16),
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the nets that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(NETS, pattern))


def find(name: str) -> Net:
    """The entry of the net called `name`.

    Raises:
        InputError: there is no such net; the sentence names the nearest.
    """
    if name not in NETS:
        raise unknown("net", name, NETS)
    return NETS[name]


def check_floatx() -> None:
    """Make sure that Keras computes in float32 where nothing else is asked for.

    Raises:
        InputError: its `floatx` is another.
    """
    import keras

    if keras.config.floatx() != "float32":
        raise InputError(
            f"Keras' floatx is {keras.config.floatx()}; tinyconv needs float32: set it in "
            "~/.keras/keras.json or by keras.config.set_floatx."
        )


def open_model(path: Path) -> keras.Model:
    """Load a model, of this package or not, from a `.keras` file.

    What its outputs mean is left open: `tinyconv.trained.open_model` finds out.

    Raises:
        InputError: the file is not there, or is not a model from images of one size to a row of
            numbers for each.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    import keras

    check_floatx()
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        if "`Lambda`" in str(error):
            raise InputError(
                f"{path} cannot be opened as a Keras model without running the code in its Lambda "
                "layer; put a stock layer in its place."
            ) from error
        raise InputError(f"{path} cannot be opened as a Keras model.") from error
    if misfit := _misfit(model):
        raise InputError(f"{path} is not a model from RGB images of one size to classes: {misfit}.")
    ends = (getattr(model, end, None) for end in ("input", "output"))
    if all(isinstance(end, keras.KerasTensor) for end in ends):
        return model
    # A Sequential, or a model of lists of one: as a functional model from a tensor to a tensor.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _misfit(model: keras.Model) -> str | None:
    """Why `model` cannot be asked about RGB images of one size, if it cannot."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return "it has no inputs and outputs of known shape; make it a functional model"
    for tensors, kind in ((inputs, "input"), (outputs, "output")):
        if len(tensors) > 1:
            return f"it has {len(tensors)} {kind}s; it must have one"
    taken, given = tuple(inputs[0].shape), tuple(outputs[0].shape)
    if len(taken) != 4 or taken[3] != 3:
        return f"its input has shape {taken}; it must be (None, height, width, 3)"
    if None in taken[1:]:
        return f"its input has shape {taken}; height and width must be numbers"
    if taken[0] is not None:
        return f"it takes {taken[0]} images at a time; the batch size must be None"
    if len(given) != 2 or given[1] is None:
        return f"its output has shape {given}; it must be (None, classes)"
    return None


def _take_constants(model: keras.Model, trained: keras.Model) -> None:
    """Copy what belongs to trained weights and is no weight: normalization and dropout rates."""
    for layer in model.layers:
        own = ("scale", "offset") if layer.name == "normalize" else ("rate",)
        for attribute in own:
            if hasattr(layer, attribute):
                setattr(layer, attribute, getattr(trained.get_layer(layer.name), attribute))


def create_model(
    name: str,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pretrained: bool | str | Path = False,
) -> keras.Model:
    """Build a net, with fresh random weights unless told otherwise.

    Args:
        name: one of `list_models()`.
        num_classes: width of the logits; 0 leaves the head out and returns the pooled features.
            Default: as the pretrained weights have it, or else as in the net's source.
        input_shape: (height, width, 3) of the images. Default: as in the net's source.
        pretrained: True for the weights that ship with tinyconv, with the dropout that they were
            trained with, or a file of weights of the net's PyTorch original, as
            `tinyconv.torchfiles.read` takes it. A head of another number of classes is left out.

    Returns:
        A functional model from raw RGB images in 0..255, of any integer or float type and of shape
        (batch, height, width, 3), to logits of shape (batch, num_classes). Normalization is inside.

    Raises:
        InputError: the name, the number of classes, the shape or the file is not usable; or no
            weights ship for the net, or they are not the ones that shipped.
    """
    net = find(name)
    check_floatx()
    source, state = None, None
    known: int | None = net.num_classes
    if pretrained is True:
        from tinyconv import trained

        source = open_model(trained.path(name))
        known = source.output_shape[-1]
    elif isinstance(pretrained, str | Path):
        from tinyconv import weights

        state = weights.read(Path(pretrained))
        known = weights.num_classes(name, state)
    if num_classes is None:
        if known is None:
            raise InputError(
                f"{pretrained} has no head of {name}; give num_classes: 0 for a net without a "
                "head, or the number of classes of a new one."
            )
        num_classes = known
    shape = net.input_shape if input_shape is None else input_shape
    if not isinstance(num_classes, Integral) or num_classes < 0:
        raise InputError(f"num_classes is {num_classes!r}; it must be 0 (no head) or more.")
    sides = tuple(shape) if isinstance(shape, Sequence) else ()
    if not all(isinstance(n, Integral) and n > 0 for n in sides) or sides[2:] != (3,):
        raise InputError(f"input_shape is {shape!r}; it must be (height, width, 3).")
    num_classes, sides = int(num_classes), tuple(map(int, sides))
    if min(sides[:2]) < net.smallest or sides[0] % net.multiple or sides[1] % net.multiple:
        rule = f"multiples of {net.multiple}" if net.multiple > 1 else f"{net.smallest} or more"
        raise InputError(f"input_shape is {shape}; height and width of {name} must be {rule}.")
    builder = getattr(importlib.import_module(f"tinyconv.nets.{net.family}"), net.name)
    try:
        model = builder(num_classes, sides)
    except ValueError as error:
        raise InputError(
            f"{name} cannot be built for images of {shape[0]}x{shape[1]}; "
            f"its own are {net.input_shape[0]}x{net.input_shape[1]}."
        ) from error
    if source:
        for layer in model.layers:
            before = source.get_layer(layer.name)
            if layer.name != "head_dense" or known == num_classes:
                layer.set_weights(before.get_weights())
        _take_constants(model, source)
    elif state is not None:
        if known not in (None, num_classes):
            _take_constants(model, builder(known, sides))
        (weights.load_torch if known == num_classes else weights.load_body)(model, state)
        if known is None and num_classes:
            print(f"{pretrained}: a new head, since the file has none", file=sys.stderr)
    return model
