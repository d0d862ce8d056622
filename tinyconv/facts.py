"""The facts about a net and about its published weights, as rows of a table."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


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
class Weights:
    """Weights that the authors of a net, or others, publish.

    Args:
        tag: the part of the name after the net and a point, as in `tiniest.scio_c10`.
        url: the address of the file.
        accuracy: the accuracy that the source reports.
        licence: the licence of the weights.
        digest: the algorithm and the digest of the file, or the beginning of the digest, as in
            "sha256:4118986f". For a `.zip`, the digest is that of the file in it. None: the server
            must state the sha256.
        mean_std: the mean and the standard deviation per channel, for images in 0..1, that the
            weights expect. Default: those of the net.
        num_classes: the number of classes.
    """

    tag: str
    url: str
    accuracy: Accuracy
    licence: str
    digest: str | None
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    num_classes: int = 10


@dataclass(frozen=True)
class Net:
    """The facts about a net, for its default number of classes and input shape.

    Args:
        name: the name of the net, and of the function that builds it.
        family: the module in `tinyconv.nets` that has this function.
        parameters: the exact number of trainable parameters.
        macs: the exact number of multiply-adds for one image, in convolutions and dense layers.
        recipe: an entry of `tinyconv.recipes.RECIPES`.
        source: the address of the original, or "tinyconv" for a net without one.
        licence: the licence of the original.
        published: the accuracies that the source reports.
        num_classes: the default number of classes.
        input_shape: the default (height, width, 3) of an image.
        smallest: the smallest height and width of an image in pixels.
        multiple: height and width must be multiples of this number.
        interpolation: the interpolation of the resizing that the published weights expect.
        crop: the published weights expect images that are resized to `input_shape` / `crop`, and
            then cropped to `input_shape`.
        weights: the published weights.
        ships: whether weights ship with tinyconv.
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
    weights: tuple[Weights, ...] = ()
    ships: bool = False

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
