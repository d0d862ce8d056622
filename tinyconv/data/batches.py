"""Batches of a split, and what `keras.Model.fit` takes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tinyconv.data.splits import Split


class Batches(keras.utils.PyDataset):
    """Batches of a split: images (B, H, W, 3) in uint8 and labels (B,) in int32.

    With `seed`, the order is drawn anew for every `epoch` from (seed, epoch), so that a run that
    is resumed goes on as if it had never stopped; without, it is the split's own.
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
        self.epoch = epoch
        if self.seed is not None:
            self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.order[index * self.batch_size :][: self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


class AugmentedBatches(keras.utils.PyDataset):
    """`batches`, each passed through `augment(step, images, labels)`; steps count over epochs.

    Several hosts each take their `share` of every batch, out of the whole: the draws of an
    augmentation depend on the size of the batch, and mixup on the other images.
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
        step = self.batches.epoch * len(self.batches) + index
        return np.int32(step), *self.batches[index]


def feed(
    batches: Batches, augment: Callable | None = None, share: slice | None = None
) -> keras.utils.PyDataset | Any:
    """What `fit` takes: `batches`, augmented anew each time by a compiled function.

    On TensorFlow the function runs in a `tf.data` pipeline, beside the training step (and on the
    host of a TPU); on JAX it runs on the device, batch by batch. On JAX several hosts each feed
    their `share` of every batch.
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
