"""A data set and its splits, in memory or in a temporary file."""

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
    """Images (N, H, W, 3) in uint8 in a file, which are indexed by rows like an array.

    Indexing reads the rows from the file, so that only these rows take memory. Several threads may
    read at once.

    Args:
        file: the file of all images.
        rows: the index in the file of each image, (N,).
        shape: (H, W, 3) of an image.
        lock: the lock that all objects on the same file share. Default: a new lock.
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
        """The images at `indices`, in the same file."""
        return OnDisk(self.file, self.rows[indices], self.shape[1:], self.lock)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        rows, size = self.rows[indices], math.prod(self.shape[1:])
        images = np.empty((len(rows), size), np.uint8)
        with self.lock:  # all threads share the position in the file
            for image, row in zip(images, rows, strict=True):
                self.file.seek(int(row) * size)
                image[:] = np.frombuffer(self.file.read(size), np.uint8)
        return images.reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3), raw RGB in uint8, and labels (N,) in int32 that count from 0."""

    images: np.ndarray | OnDisk
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | slice) -> "Split":
        """The images and labels at `indices`."""
        images = self.images
        images = images.take(indices) if isinstance(images, OnDisk) else images[indices]
        return Split(images, self.labels[indices])

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` images and labels, evenly spaced over the split.

        A folder is sorted by class, so that its first images would be of few classes.
        """
        indices = self._spread(count)
        return self.images[indices], self.labels[indices]

    def others(self, count: int) -> "Split":
        """The images and labels that are not in `some(count)`."""
        return self.take(np.setdiff1d(np.arange(len(self)), self._spread(count)))

    def _spread(self, count: int) -> np.ndarray:
        return np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)


@dataclass(frozen=True)
class Dataset:
    """A data set and its splits.

    Args:
        name: the name of the data set.
        class_names: the names of the classes, in the order of the labels.
        train: the training split.
        test: the test split.
        holdout: the images to validate on: training images that were set aside, or the val split of
            a folder that also has a test split.
        test_name: the name of the test split. It is "val" for a folder with a val split and no test
            split.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    holdout: Split | None = None
    test_name: str = "test"

    def counts(self) -> dict[str, int]:
        """The number of images of each split."""
        splits = {"train": self.train, "holdout": self.holdout or (), "test": self.test}
        return {name: len(split) for name, split in splits.items()}


def check_classes(source: str | Path, names: Sequence[str], hint: str = "") -> None:
    """Check that a source has at least two classes.

    Args:
        source: the source, for the message.
        names: the names of the classes.
        hint: the end of the message.

    Raises:
        InputError: the source has one class.
    """
    if len(names) < 2:
        hint = hint or "; a classifier needs at least two."
        raise InputError(f"{source} has one class, {names[0]!r}{hint}")


def split_by_class(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split examples in two. Each class has the same share of both parts.

    Args:
        labels: the label of each example, (N,).
        count: the number of examples in the second part.
        seed: selects the examples.

    Returns:
        The sorted indices of the first part and of the second part.

    Raises:
        InputError: a class would be missing in one part.
    """
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
    """A hash of the pixels of each image, (N,)."""
    digests = [
        hashlib.blake2b(image, digest_size=16).digest()
        for start in range(0, len(images), 64)
        for image in np.ascontiguousarray(images[start : start + 64])
    ]
    return np.array(digests, "V16")


def shared(dataset: Dataset) -> list[str]:
    """A sentence for each other split that has images with the pixels of a training image."""
    train = set(contents(dataset.train.images).tolist())
    said = []
    for name, split in ((dataset.test_name, dataset.test), ("holdout", dataset.holdout)):
        count = sum(d in train for d in contents(split.images).tolist()) if split else 0
        if split and count:
            said.append(f"{count:,} of {len(split):,} {name} images are also training images.")
    return said


def split_by_content(images: np.ndarray | OnDisk, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Split images in two: about four fifths and one fifth of each class.

    All copies of an image are in the same part, unless a class consists of copies of one image.

    Args:
        images: the images, (N, H, W, 3).
        labels: the label of each image, (N,).

    Returns:
        The sorted indices of the larger part and of the smaller part.

    Raises:
        InputError: a class has fewer than two images.
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
