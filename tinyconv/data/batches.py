"""Batches of a split, plain or augmented, for `keras.Model.fit`."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tinyconv.data.splits import Split


class Batches(keras.utils.PyDataset):
    """Batches of a split: images (B, H, W, 3) in uint8 and labels (B,) in int32.

    Args:
        split: the images and labels.
        batch_size: images per batch.
        seed: shuffles the images. The order of an epoch depends on (seed, epoch) alone, and a
            resumed run therefore sees the same batches. Default: the order of the split.
        drop_remainder: leave out a last batch that is smaller than `batch_size`.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int | None = None, drop_remainder: bool = False
    ):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.steps = (
            len(split) // batch_size if drop_remainder else math.ceil(len(split) / batch_size)
        )
        self.order = np.arange(len(split))
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Take the order of epoch number `epoch`, which counts from 0."""
        self.epoch = epoch
        if self.seed is not None:
            self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.order[index * self.batch_size :][: self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


class AugmentedBatches(keras.utils.PyDataset):
    """Batches after augmentation.

    Args:
        batches: the batches to augment.
        augment: a function of (step, images, labels) that returns images and labels, or None. The
            step number counts from the beginning of the training.
        share: the images of every batch that this host trains on. Default: all. The whole batch is
            augmented first: the random numbers depend on the batch size, and mixup on the other
            images.
    """

    def __init__(self, batches: Batches, augment: Callable | None, share: slice | None = None):
        super().__init__()
        self.batches, self.augment, self.share = batches, augment, share

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        step, images, labels = self.numbered(index)
        if self.augment:
            images, labels = self.augment(step, images, labels)
        return (images, labels) if self.share is None else (images[self.share], labels[self.share])

    def numbered(self, index: int) -> tuple[Any, Any, Any]:
        """The step number, images and labels of batch `index` of the current epoch."""
        step = self.batches.epoch * len(self.batches) + index
        return np.int32(step), *self.batches[index]


def feed(
    batches: Batches, augment: Callable | None = None, share: slice | None = None
) -> keras.utils.PyDataset | Any:
    """The argument of `fit`: `batches`, augmented by a compiled function.

    On TensorFlow, the function runs in a `tf.data` pipeline, in parallel with the training step and
    on the host of a TPU. On JAX, the function runs on the device, batch by batch.

    Args:
        batches: the batches.
        augment: as for `AugmentedBatches`.
        share: as for `AugmentedBatches`; for JAX on several hosts only.

    Returns:
        A `keras.utils.PyDataset` or a `tf.data.Dataset` of (images, labels).
    """
    if augment is None:
        return batches if share is None else AugmentedBatches(batches, None, share)
    if keras.backend.backend() == "jax":
        import jax

        return AugmentedBatches(batches, jax.jit(augment), share)
    import tensorflow as tf

    augmented = AugmentedBatches(batches, augment)

    def generate() -> Iterator:
        return (augmented.numbered(index) for index in range(len(augmented)))

    shape = batches.split.images.shape[1:]
    signature = (
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((None, *shape), tf.uint8),
        tf.TensorSpec((None,), tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(augmented)))
    return dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
