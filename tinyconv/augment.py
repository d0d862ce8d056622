"""Augmentation with Keras layers, as a pure function of a step number and a batch.

Keras' random layers keep the state of their generators in variables. `Augmentation` computes this
state from the seed, the layer and the step, and passes it to `stateless_call`. Every image of every
epoch therefore has its own random numbers, and a resumed run has the same random numbers as an
uninterrupted run. The function can run in a `tf.data` pipeline or be compiled by JAX.

This module has its own layers where Keras' layers cannot do what a recipe needs. Keras' shifts are
not whole pixels. Its layers have no probability. Its sharpness is at most 2 and darkens the border.
Its colour layers use other formulas.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tinyconv.errors import unknown
from tinyconv.mixing import CutMix, Mixup

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
OPTIONS: dict[str, Any] = {"data_format": "channels_last", "dtype": "float32"}
DRAWS_PER_STEP = 1024  # more than a layer makes, so that the draws of two steps never overlap


class Sometimes(keras.layers.Layer):
    """Applies `layer` to each image with a `probability`. Other images are unchanged."""

    def __init__(self, probability: float, layer: keras.layers.Layer):
        super().__init__(dtype="float32")
        self.probability, self.layer = probability, layer
        self.generator = keras.random.SeedGenerator(0)

    def build(self, input_shape: tuple) -> None:
        self.layer.build(input_shape)

    def call(self, images: Any, training: bool = True) -> Any:
        draws = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.generator)
        return ops.where(draws < self.probability, self.layer(images, training=True), images)


class RandomShift(keras.layers.Layer):
    """Shifts each image by whole pixels, by up to `pixels` in each direction.

    New pixels at the border repeat the edge or, with `border` "zero", are black.
    """

    def __init__(self, pixels: int, border: str = "edge"):
        super().__init__(dtype="float32")
        self.pixels, self.border = pixels, border
        self.generator = keras.random.SeedGenerator(0)

    def call(self, images: Any, training: bool = True) -> Any:
        _, height, width, _ = images.shape
        rows = ops.einsum("bih,bhwc->biwc", self._matrices(images, height), images)
        return ops.einsum("bjw,biwc->bijc", self._matrices(images, width), rows)

    def _matrices(self, images: Any, size: int) -> Any:
        """A matrix (size, size) per image that shifts its rows or columns.

        A product with a matrix is several times faster than a gather operation. A row of zeros in
        the matrix makes a black row or column.
        """
        shape = (ops.shape(images)[0], 1)
        draws = keras.random.randint(shape, -self.pixels, self.pixels + 1, seed=self.generator)
        lines = ops.arange(size) + draws
        if self.border == "edge":
            lines = ops.clip(lines, 0, size - 1)
        return ops.one_hot(lines, size)


class RandomSharpness(keras.layers.Layer):
    """Sharpens each image by a factor in `low`..`high`; the factor 1 leaves an image unchanged.

    The factor scales the difference between an image and its 3x3 blur. Pixels at the border are
    unchanged.
    """

    def __init__(self, low: float, high: float):
        super().__init__(dtype="float32")
        self.low, self.high = low, high
        self.generator = keras.random.SeedGenerator(0)

    def call(self, images: Any, training: bool = True) -> Any:
        height, width = images.shape[1:3]
        total = 4 * images[:, 1:-1, 1:-1]  # the centre has weight 5
        for row in range(3):
            for column in range(3):
                total += images[:, row : row + height - 2, column : column + width - 2]
        inside = images[:, 1:-1, 1:-1] - total / 13
        difference = ops.pad(inside, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shape = (ops.shape(images)[0], 1, 1, 1)
        factor = keras.random.uniform(shape, self.low, self.high, seed=self.generator)
        return ops.clip(images + (factor - 1) * difference, 0, 255)


class RandomColor(keras.layers.Layer):
    """Changes brightness, contrast, saturation and hue of each image, in this order.

    Brightness, contrast and saturation are multiplied by a factor in 1 - x..1 + x, where x is the
    argument. Contrast is relative to the mean grey of the image, and saturation to the grey of each
    pixel. The hue is rotated by up to the share `hue` of a full turn.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        super().__init__(dtype="float32")
        self.ranges = (brightness, contrast, saturation)
        self.hue = hue
        self.generator = keras.random.SeedGenerator(0)

    def call(self, images: Any, training: bool = True) -> Any:
        shape = (ops.shape(images)[0], 1, 1, 1)

        def draw(centre: float, reach: float) -> Any:
            return keras.random.uniform(shape, centre - reach, centre + reach, seed=self.generator)

        def blend(factor: Any, towards: Any) -> Any:
            return ops.clip(towards + factor * (images - towards), 0, 255)

        def grey() -> Any:
            return ops.sum(images * ops.convert_to_tensor(GREY), axis=-1, keepdims=True)

        brightness, contrast, saturation = (draw(1, reach) for reach in self.ranges)
        images = blend(brightness, 0)
        images = blend(contrast, ops.mean(grey(), axis=(1, 2), keepdims=True))
        images = blend(saturation, grey())
        hue, colour, value = ops.split(
            ops.image.rgb_to_hsv(images / 255, "channels_last"), 3, axis=-1
        )
        hue = (hue + draw(0, self.hue)) % 1
        return 255 * ops.image.hsv_to_rgb(
            ops.concatenate([hue, colour, value], axis=-1), "channels_last"
        )


class RandAugment(keras.layers.RandAugment):
    """Two of eleven operations for each image, of a random strength.

    Keras' layer draws the two operations for a whole batch, turns by up to 180 degrees, shifts to
    one side and never darkens. This layer draws the operations for each image, turns by up to 30
    degrees, shears and shifts by up to 0.3 of the size, and brightens or darkens.
    Source: https://arxiv.org/abs/1909.13719.
    """

    def __init__(self) -> None:
        super().__init__(**OPTIONS)
        self.random_rotation = keras.layers.RandomRotation(30 / 360, **OPTIONS)
        self.random_shear = keras.layers.RandomShear(0.3, 0.3, **OPTIONS)
        self.random_translation = keras.layers.RandomTranslation(0.3, 0.3, **OPTIONS)
        self.random_brightness = keras.layers.RandomBrightness(0.3, **OPTIONS)

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any]:
        drawn = super().get_random_transformation(data, training, seed)
        shape = (self.num_ops, ops.shape(data)[0], 1, 1, 1)
        drawn["layer_idxes"] = keras.random.randint(
            shape, 0, len(drawn["transforms"]), seed=self.generator
        )
        return drawn


AUGMENTATIONS = {
    "flip": lambda: keras.layers.RandomFlip("horizontal", **OPTIONS),
    "translate": lambda: keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", **OPTIONS),
    "crop": lambda: RandomShift(4, border="zero"),
    "shift": lambda: RandomShift(4),
    "rotate": lambda: Sometimes(
        0.95, keras.layers.RandomRotation(15 / 360, fill_mode="reflect", **OPTIONS)
    ),
    "sharpen": lambda: Sometimes(0.95, RandomSharpness(1.0, 2.2)),
    "color": lambda: Sometimes(0.9, RandomColor(0.1, 0.1, 0.5, 0.05)),
    "cutout": lambda: keras.layers.RandomErasing((1, 1), (0.25, 0.25), fill_value=0, **OPTIONS),
    "erase": lambda: keras.layers.RandomErasing((0.5, 0.5), (0.02, 0.33), **OPTIONS),
    "randaugment": RandAugment,
}


def check(names: Iterable[str]) -> None:
    """Check that augmentations with these names exist.

    Raises:
        InputError: an augmentation does not exist. The message suggests the most similar name.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown("augmentation", name, AUGMENTATIONS)


class Augmentation:
    """A function of a step number, images (B, H, W, 3) in 0..255 and labels (B,).

    The function returns the augmented images in float32 and the labels. The labels are (B, classes)
    with mixup or cutmix, and unchanged without. The step number counts from the beginning of the
    training.

    Args:
        names: names of layers in `AUGMENTATIONS`, in the order of their application.
        seed: the seed of all random numbers.
        mixup: the mixup to apply after the layers. Default: no mixup.
        steps_per_epoch: the number of steps of an epoch, for mixup.
        cutmix: the cutmix to apply after the layers. Images that cutmix leaves out get the mixup.
            Default: no cutmix.

    Raises:
        InputError: an augmentation does not exist.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        seed: int,
        mixup: Mixup | None = None,
        steps_per_epoch: int = 1,
        cutmix: CutMix | None = None,
    ):
        check(names)
        self.layers = [AUGMENTATIONS[name]() for name in names]
        for layer in self.layers:
            layer.build((None, None, None, 3))
        self.mixup, self.cutmix, self.steps_per_epoch = mixup, cutmix, steps_per_epoch
        # An additional key at the end does not change the keys before it.
        self.keys = np.random.SeedSequence(seed).generate_state(len(names) + 2) >> 1

    def __call__(self, step: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        images = ops.cast(images, "float32")
        for layer, key in zip(self.layers, self.keys, strict=False):
            images = self._apply(layer, key, step, images, training=True)
        mixed = images, labels
        if self.mixup:
            epoch = step // self.steps_per_epoch
            mixed = self._apply(self.mixup, self.keys[-2], step, images, labels, epoch)
        if self.cutmix:
            return self._apply(self.cutmix, self.keys[-1], step, images, labels, *mixed)
        return mixed

    def _apply(self, layer: keras.layers.Layer, key: int, step: Any, *args: Any, **options: Any):
        states = [
            ops.stack(
                [
                    ops.cast(int(key) + i, state.dtype),
                    ops.cast(step, state.dtype) * DRAWS_PER_STEP,
                ]
            )
            for i, state in enumerate(layer.non_trainable_variables)
        ]
        result, _ = layer.stateless_call([], states, *args, **options)
        return result
