"""A data set in memory, or in a temporary file, and its splits."""

import math
import os
from dataclasses import dataclass
from typing import IO

import numpy as np

from tinyconv.errors import InputError


class OnDisk:
    """Images (N, H, W, 3) in uint8 in a file: an array, as far as indexing by rows goes.

    They are read, not mapped, so that they take no memory beyond the rows asked for.
    """

    def __init__(self, file: IO[bytes], rows: np.ndarray, shape: tuple[int, int, int]):
        self.file, self.rows = file, rows
        self.shape = (len(rows), *shape)

    def take(self, indices: np.ndarray) -> "OnDisk":
        """Some of them, in the same file."""
        return OnDisk(self.file, self.rows[indices], self.shape[1:])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        size, number = math.prod(self.shape[1:]), self.file.fileno()
        rows = [os.pread(number, size, int(row) * size) for row in self.rows[indices]]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) in uint8, raw RGB, and labels (N,) in int32, from 0 up."""

    images: np.ndarray | OnDisk
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        images = self.images
        images = images.take(indices) if isinstance(images, OnDisk) else images[indices]
        return Split(images, self.labels[indices])

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` images and labels, evenly from start to end: folders go by class."""
        indices = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return self.images[indices], self.labels[indices]


@dataclass(frozen=True)
class Dataset:
    """A data set, split. `holdout` is the part taken out of the training images, if any."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    holdout: Split | None = None

    def counts(self) -> dict[str, int]:
        """How many images each split has."""
        splits = {"train": self.train, "holdout": self.holdout or (), "test": self.test}
        return {name: len(split) for name, split in splits.items()}


def split_by_class(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all but `count` examples, and of `count` in the proportions of the classes."""
    from sklearn.model_selection import train_test_split

    classes = len(np.unique(labels))
    if np.bincount(labels)[np.unique(labels)].min() < 2:
        raise InputError("Every class needs at least two images, one of them to hold out.")
    if not classes <= count <= len(labels) - classes:
        raise InputError(
            f"Cannot hold out {count} of {len(labels)} images in {classes} classes; "
            f"it must be {classes} to {len(labels) - classes}."
        )
    kept, held = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed
    )
    return np.sort(kept), np.sort(held)
