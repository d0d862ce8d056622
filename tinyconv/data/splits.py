"""A data set in memory, or in a temporary file, and its splits."""

import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from tinyconv.errors import InputError


class OnDisk:
    """Images (N, H, W, 3) in uint8 in a file: an array, as far as indexing by rows goes.

    They are read, not mapped, so that they take no memory beyond the rows asked for. Several
    threads may read at once.
    """

    def __init__(
        self,
        file: IO[bytes],
        rows: np.ndarray,
        shape: tuple[int, int, int],
        lock: "threading.Lock | None" = None,
    ):
        self.file, self.rows, self.lock = file, rows, lock or threading.Lock()
        self.shape = (len(rows), *shape)

    def take(self, indices: np.ndarray | slice) -> "OnDisk":
        """Some of them, in the same file."""
        return OnDisk(self.file, self.rows[indices], self.shape[1:], self.lock)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        rows, size = self.rows[indices], math.prod(self.shape[1:])
        images = np.empty((len(rows), size), np.uint8)
        with self.lock:  # a file has one position
            for image, row in zip(images, rows, strict=True):
                self.file.seek(int(row) * size)
                image[:] = np.frombuffer(self.file.read(size), np.uint8)
        return images.reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) in uint8, raw RGB, and labels (N,) in int32, from 0 up."""

    images: np.ndarray | OnDisk
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | slice) -> "Split":
        images = self.images
        images = images.take(indices) if isinstance(images, OnDisk) else images[indices]
        return Split(images, self.labels[indices])

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` images and labels, evenly from start to end: folders go by class."""
        indices = self._spread(count)
        return self.images[indices], self.labels[indices]

    def others(self, count: int) -> "Split":
        """The images and labels that `some(count)` leaves out."""
        return self.take(np.setdiff1d(np.arange(len(self)), self._spread(count)))

    def _spread(self, count: int) -> np.ndarray:
        return np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)


@dataclass(frozen=True)
class Dataset:
    """A data set, split.

    `holdout` is the part taken out of the training images, or the val part of a folder that has a
    test part, too. `test_name` is "val" where a folder has a val part and no test part.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    holdout: Split | None = None
    test_name: str = "test"

    def counts(self) -> dict[str, int]:
        """How many images each split has."""
        splits = {"train": self.train, "holdout": self.holdout or (), "test": self.test}
        return {name: len(split) for name, split in splits.items()}


def check_classes(source: str | Path, names: Sequence[str], hint: str = "") -> None:
    """Refuse a source whose images are all of one class."""
    if len(names) < 2:
        hint = hint or "; a classifier needs at least two."
        raise InputError(f"{source} has one class, {names[0]!r}{hint}")


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


def contents(images: np.ndarray | OnDisk) -> np.ndarray:
    """A digest of each image's pixels (N,): equal for equal images."""
    digests = [
        hashlib.blake2b(image, digest_size=16).digest()
        for start in range(0, len(images), 64)
        for image in np.ascontiguousarray(images[start : start + 64])
    ]
    return np.array(digests, "V16")


def shared(dataset: Dataset) -> list[str]:
    """A sentence for each split that has images of the training split, by their pixels."""
    train = set(contents(dataset.train.images).tolist())
    said = []
    for name, split in ((dataset.test_name, dataset.test), ("holdout", dataset.holdout)):
        count = sum(d in train for d in contents(split.images).tolist()) if split else 0
        if split and count:
            said.append(f"{count:,} of {len(split):,} {name} images are also training images.")
    return said


def split_by_content(images: np.ndarray | OnDisk, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of about four fifths and of one fifth of each class; copies stay on one side.

    A class in which all images are copies of one another is on both sides.
    """
    keys = [(int(label), key) for label, key in zip(labels, contents(images).tolist(), strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    originals = np.array(sorted(first.values()))
    classes = len(np.unique(labels))
    if np.bincount(labels[originals])[np.unique(labels)].min() < 2:
        originals = np.arange(len(labels))
        first = {}
    count = max(classes, len(originals) // 5)
    _, held = split_by_class(labels[originals], count, seed=0)
    chosen = set(originals[held].tolist())
    is_held = np.array([first.get(key, i) in chosen for i, key in enumerate(keys)])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
