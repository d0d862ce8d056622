"""Which nets there are, and what is known of each without building it."""

from __future__ import annotations

import fnmatch
import importlib
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
    """Load a trained model, of this package or not, from a `.keras` file.

    Raises:
        InputError: the file is not there, or cannot be opened as a model from images to logits.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    import keras

    check_floatx()
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise InputError(f"{path} cannot be opened as a Keras model.") from error
    shape = model.input_shape
    if len(shape) != 4 or None in shape[1:] or shape[3] != 3 or len(model.output_shape) != 2:
        raise InputError(f"{path} is not a model from RGB images of one size to logits.")
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if softmax or isinstance(last, keras.layers.Softmax):
        raise InputError(f"{path} ends in a softmax, which must go: logits are wanted.")
    return model


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
            trained with, or a `.safetensors` or `.pt` file of the net's PyTorch original. Their
            head is left out where it has another number of classes.

    Returns:
        A functional model from raw RGB images in 0..255, of any integer or float type and of shape
        (batch, height, width, 3), to logits of shape (batch, num_classes). Normalization is inside.

    Raises:
        InputError: the name, the number of classes, the shape or the file is not usable; or no
            weights ship for the net, or they are not the ones that shipped.
    """
    net = find(name)
    check_floatx()
    source, state, known = None, None, net.num_classes
    if pretrained is True:
        from tinyconv import trained

        source = open_model(trained.path(name))
        known = source.output_shape[-1]
    elif isinstance(pretrained, str | Path):
        from tinyconv import weights

        state = weights.read(Path(pretrained))
        known = weights.num_classes(name, state)
    if num_classes is None:
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
            if hasattr(layer, "rate"):
                layer.rate = before.rate
    elif state is not None:
        (weights.load_torch if known == num_classes else weights.load_body)(model, state)
    return model
