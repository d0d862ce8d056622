"""Mixup and cutmix: training on two images and their labels at once."""

from typing import Any

import keras
from keras import ops


class Mixup(keras.layers.Layer):
    """Mixes each image and its label with the previous image of the batch.

    The share of the previous image is uniform in 0..min(epoch / epochs, largest).
    Source: https://arxiv.org/abs/1710.09412.

    Args:
        largest: the largest share.
        classes: the number of classes.
        epochs: the number of epochs of the training.
    """

    def __init__(self, largest: float, classes: int, epochs: int):
        super().__init__(dtype="float32")
        self.largest, self.classes, self.epochs = largest, classes, epochs
        self.generator = keras.random.SeedGenerator(0)
        self.built = True

    def call(self, images: Any, labels: Any, epoch: Any) -> tuple[Any, Any]:
        """Mix images (B, H, W, 3) and labels (B,); the mixed labels are (B, classes)."""
        limit = ops.minimum(ops.cast(epoch, "float32") / self.epochs, self.largest)
        share = limit * keras.random.uniform((ops.shape(images)[0], 1), seed=self.generator)
        labels = ops.one_hot(labels, self.classes)
        labels += share * (ops.roll(labels, 1, axis=0) - labels)
        images += share[:, :, None, None] * (ops.roll(images, 1, axis=0) - images)
        return images, labels


class CutMix(keras.layers.Layer):
    """Replaces a box of some images by that of another image of the batch, and mixes the labels.

    The share of the box is uniform in 0..1. The share of each label is that of its image.
    Source: https://arxiv.org/abs/1905.04899.

    Args:
        probability: the probability that an image is changed.
        classes: the number of classes.
    """

    def __init__(self, probability: float, classes: int):
        super().__init__(dtype="float32")
        self.probability, self.classes = probability, classes
        self.layer = keras.layers.CutMix((1, 1), data_format="channels_last", dtype="float32")
        self.generator = keras.random.SeedGenerator(0)
        self.built = self.layer.built = True

    def call(
        self, images: Any, labels: Any, other_images: Any, other_labels: Any
    ) -> tuple[Any, Any]:
        """Mix images (B, H, W, 3) and labels (B,); the mixed labels are (B, classes).

        Images that are not changed are taken from `other_images`, with their `other_labels`.
        """
        labels = ops.one_hot(labels, self.classes)
        if len(other_labels.shape) == 1:
            other_labels = labels
        mixed = self.layer({"images": images, "labels": labels}, training=True)
        draws = keras.random.uniform((ops.shape(images)[0], 1), seed=self.generator)
        changed = draws < self.probability
        return (
            ops.where(changed[:, :, None, None], mixed["images"], other_images),
            ops.where(changed, mixed["labels"], other_labels),
        )
