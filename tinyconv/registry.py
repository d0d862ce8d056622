"""The table of all nets: facts that are known without building a net."""

from __future__ import annotations

import fnmatch
import importlib
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from tinyconv.errors import unknown


@dataclass(frozen=True)
class Accuracy:
    """A top-1 accuracy that the source of a net reports.

    Args:
        data: the images: "cifar10" and "cifar100" are test images, and "imagenet" is the validation
            images of ImageNet-1k.
        percent: the accuracy in percent.
        size: height and width of the images in pixels.
        epochs: the length of the training, if the source reports it.
    """

    data: str
    percent: float
    size: int = 32
    epochs: int | None = None


@dataclass(frozen=True)
class Net:
    """The facts about a net, for its default number of classes and input shape.

    Args:
        name: the name of the net, and of the function that builds it.
        family: the module in `tinyconv.nets` that has this function.
        parameters: the exact number of trainable parameters.
        macs: the exact number of multiply-adds for one image, in convolutions and dense layers.
        recipe: an entry of `tinyconv.recipes.RECIPES`.
        source: the address of the original.
        licence: the licence of the original.
        published: the accuracies that the source reports.
        num_classes: the default number of classes.
        input_shape: the default (height, width, 3) of an image.
        smallest: the smallest height and width of an image in pixels.
        multiple: height and width must be multiples of this number.
        interpolation: the interpolation of the resizing that the published weights expect.
        crop: the published weights expect images that are resized to `input_shape` / `crop`, and
            then cropped to `input_shape`.
    """

    name: str
    family: str
    parameters: int
    macs: int
    recipe: str
    source: str
    licence: str
    published: tuple[Accuracy, ...]
    num_classes: int = 10
    input_shape: tuple[int, int, int] = (32, 32, 3)
    smallest: int = 1
    multiple: int = 1
    interpolation: str = "bicubic"
    crop: float = 1.0

    def accuracies(self, data: str) -> list[Accuracy]:
        """The published accuracies on `data`."""
        return [accuracy for accuracy in self.published if accuracy.data == data]

    def module(self) -> ModuleType:
        """Import the module that builds the net, and with it Keras."""
        return importlib.import_module(f"tinyconv.nets.{self.family}")

    def preparation(self) -> str:
        """A sentence on the preparation of images that the published weights expect."""
        height, width, _ = self.input_shape
        steps = f"resized to {int(height / self.crop)} ({self.interpolation}), cropped"
        return (
            f"Images: raw RGB in 0..255, {steps if self.crop < 1 else 'resized'} to "
            f"{height}x{width}; normalization is inside."
        )


def _cifar10(percent: float, epochs: int | None = None) -> Accuracy:
    return Accuracy("cifar10", percent, epochs=epochs)


_cifar10_tiny = partial(
    Net,
    family="cifar10_tiny",
    recipe="cifar10_tiny",
    source="https://github.com/soyflourbread/cifar10-tiny",
    licence="MIT",
)


def _resnet(name: str, parameters: int, macs: int, cifar10: float, cifar100: float) -> Net:
    return Net(
        name,
        "resnet",
        parameters,
        macs,
        recipe="resnet",
        source="https://github.com/chenyaofo/CIFAR-pretrained-models",
        licence="BSD-3-Clause",
        published=(_cifar10(cifar10), Accuracy("cifar100", cifar100)),
    )


def _timm(
    name: str, family: str, parameters: int, macs: int, at_160: float, at_192: float, **more: Any
) -> Net:
    return Net(
        name,
        family,
        parameters,
        macs,
        recipe="timm",
        source=f"https://huggingface.co/timm/{name}.r160_in1k",
        licence="Apache-2.0",
        published=(Accuracy("imagenet", at_160, 160), Accuracy("imagenet", at_192, 192)),
        num_classes=1000,
        input_shape=(160, 160, 3),
        crop=0.95,
        **more,
    )


NETS = {
    net.name: net
    for net in (
        _cifar10_tiny(
            "cifar10_tiny",
            parameters=170_282,
            macs=34_768_128,
            published=(_cifar10(77.97, epochs=10), _cifar10(86.47, epochs=100)),
        ),
        _cifar10_tiny(
            "cifar10_tiny_half", parameters=48_794, macs=10_044_032, published=(_cifar10(81),)
        ),
        Net(
            "tiniest",
            family="tiniest",
            parameters=97_530,
            macs=43_878_176,
            recipe="tiniest",
            source="https://github.com/xvel/cifar10-tiniest",
            licence="none given; rebuilt from a description",
            published=(_cifar10(94.4, epochs=200), _cifar10(94.6, epochs=300)),
        ),
        _resnet("resnet20", 272_474, 40_813_184, 91.65, 66.61),
        _resnet("resnet32", 466_906, 69_124_736, 92.81, 68.74),
        _resnet("resnet44", 661_338, 97_436_288, 93.24, 69.49),
        _resnet("resnet56", 855_770, 125_747_840, 93.69, 70.79),
        _timm("test_byobnet", "byobnet", 456_856, 31_142_144, 45.85, 46.69),
        _timm("test_convnext", "convnext", 272_128, 31_228_800, 47.76, 48.53, smallest=32),
        _timm("test_convnext2", "convnext", 477_800, 50_803_200, 53.51, 53.62, smallest=32),
        _timm("test_convnext3", "convnext", 468_840, 49_830_400, 53.33, 54.56, smallest=32),
        _timm("test_efficientnet", "efficientnet", 356_196, 57_304_256, 46.45, 47.16),
        _timm("test_efficientnet_evos", "efficientnet", 357_292, 57_304_256, 46.50, 46.92),
        _timm("test_efficientnet_gn", "efficientnet", 356_196, 57_304_256, 43.88, 44.45),
        _timm("test_efficientnet_ln", "efficientnet", 356_196, 57_304_256, 43.92, 44.54),
        _timm("test_nfnet", "nfnet", 383_080, 285_058_560, 47.62, 48.30),
        _timm(
            "test_resnet", "resnet_d", 469_688, 102_547_200, 41.58, 42.38, interpolation="bilinear"
        ),
        _timm("test_vit", "vit", 371_240, 29_800_960, 40.95, 41.98, multiple=16),
        _timm("test_vit2", "vit", 455_720, 38_074_880, 42.23, 43.45, multiple=16),
        _timm("test_vit3", "vit", 930_280, 76_404_480, 56.89, 58.12, multiple=16),
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """List the names of the nets.

    Args:
        pattern: a shell-style pattern, such as "resnet*". Default: all nets.

    Returns:
        The matching names in alphabetical order.

    Example:

    ```python
    tinyconv.list_models("resnet*")  # ["resnet20", "resnet32", "resnet44", "resnet56"]
    ```
    """
    return sorted(fnmatch.filter(NETS, pattern))


def get(name: str) -> Net:
    """Get the facts about a net by its name.

    Raises:
        InputError: no net has that name. The message suggests the most similar name.
    """
    if name not in NETS:
        raise unknown("net", name, NETS)
    return NETS[name]
