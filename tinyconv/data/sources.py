"""Data sets by name or path: digits, arrays, folders, tables and the sets of two libraries."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.data import hub_sets, pictures, tables, tensorflow_sets
from tinyconv.data.arrays import load_npz
from tinyconv.data.folders import open_folder
from tinyconv.data.images import Crop, resize
from tinyconv.data.pictures import Pictures
from tinyconv.data.ranges import Range, check_range
from tinyconv.data.splits import Dataset, Split, check_classes, shared, split_by_class
from tinyconv.errors import InputError

TFDS = ("cifar10", "cifar100")
SIZES = dict.fromkeys((*TFDS, "digits"), (32, 32))  # input size of a new net, in pixels
SETS = {library.PREFIX: library for library in (tensorflow_sets, hub_sets)}
KNOWN = (
    "cifar10, cifar100, digits, tfds:NAME, hf:OWNER/NAME, FILE.npz, FILE.csv or a FOLDER of images"
)


def load(
    spec: str,
    size: tuple[int, int],
    holdout: int = 0,
    seed: int = 0,
    data_range: Range | None = None,
    crop: Crop | None = None,
) -> Dataset:
    """Read a data set.

    Args:
        spec: a name or a path. "cifar10" and "cifar100" are read by TensorFlow Datasets, which uses
            the environment variable TFDS_DATA_DIR. "digits" are the 1,797 handwritten digits of
            scikit-learn. "tfds:NAME" and "hf:OWNER/NAME" are sets of TensorFlow Datasets and of the
            Hugging Face Hub. An `.npz` file has x_train, y_train, x_test, y_test and optionally
            class_names. A `.csv` file has the columns image and label, and optionally split. A
            folder has one subfolder of images per class, or train/ and test/ with such subfolders.
            The rules are in docs/data.md.
        size: (height, width) in pixels that every image is resized to.
        holdout: the number of training images to set aside for validation. Each class keeps its
            share.
        seed: selects the images to set aside.
        data_range: the values of black and white in an `.npz`. Default: 0 and 255.
        crop: as for `read_image`, for images that do not have that size.

    Returns:
        The data set. The number of test images that are also training images is printed.

    Raises:
        InputError: the source does not exist, cannot be read, or has other content.
    """
    if holdout < 0:
        raise InputError(f"The holdout is {holdout} images; it must be 0 or more.")
    if data_range is not None:
        data_range = check_range(data_range)
        if is_name(spec) or Path(spec).is_dir() or tables.is_table(Path(spec)):
            raise InputError(f"--data-range is for the arrays of an .npz file; {spec} needs none.")
    if spec in TFDS:
        dataset = tensorflow_sets.load_cifar(spec)
    elif spec == "digits":
        dataset = _load_digits()
    elif opened := _open(spec):
        dataset = pictures.load(opened, size, holdout, crop)
    elif Path(spec).is_file():
        dataset = load_npz(Path(spec), data_range)
    else:
        near = difflib.get_close_matches(spec, (*TFDS, "digits"), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "no such file or folder."
        raise InputError(f"Unknown data {spec!r} ({KNOWN}): {hint}")
    present = [dataset.class_names[label] for label in np.unique(dataset.train.labels)]
    check_classes(spec, present)
    train, test = (
        Split(resize(split.images, size, crop), split.labels)
        for split in (dataset.train, dataset.test)
    )
    dataset = replace(dataset, train=train, test=test)
    if holdout:
        kept, held = split_by_class(train.labels, holdout, seed)
        dataset = replace(dataset, train=train.take(kept), holdout=train.take(held))
    for sentence in shared(dataset):
        print(sentence, file=sys.stderr)
    return dataset


def load_test(
    spec: str,
    size: tuple[int, int],
    class_names: tuple[str, ...] | None,
    own: str | None,
    data_range: Range | None = None,
    crop: Crop | None = None,
    folders: Mapping[str, str] | None = None,
) -> tuple[Split, tuple[str, ...], str]:
    """Read the images to evaluate a trained model on.

    Args:
        spec: as for `load`. All images of a source without splits are read, unless the model was
            trained on it.
        size: (height, width) in pixels that every image is resized to.
        class_names: the classes of the model, if they are known. The labels become indices into
            them.
        own: the data that the model was trained on, if they are known.
        data_range: as for `load`.
        crop: as for `read_image`, for images that do not have the input size.
        folders: other names of classes of the model, to their names.

    Returns:
        The images and labels, the names of the classes, and a description of the images.

    Raises:
        InputError: as for `load`, or the data have a class that is not in `class_names`.
    """
    other = open_other(spec, own) if data_range is None else None
    if other:
        split, names, which = pictures.load_test(other, size, crop)
    else:
        dataset = load(spec, size, data_range=data_range, crop=crop)
        split, names = dataset.test, dataset.class_names
        which = f"its {dataset.test_name} part"
    if folders and set(names) <= set(folders):
        names = tuple(folders[name] for name in names)
    what = f"{len(split):,} images of {spec}, {which}"
    if class_names in (None, names):
        return split, names, what
    assert class_names
    if unknown := [name for name in names if name not in class_names]:
        hint = other.hint if other and len(names) == 1 else ""
        known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
        raise InputError(
            f"{spec} has class {unknown[0]!r}, which the model does not know ({known}){hint or '.'}"
        )
    indices = np.array([class_names.index(name) for name in names], np.int32)
    what += f", in {len(names)} of the model's {len(class_names)} classes"
    return Split(split.images, indices[split.labels]), class_names, what


def open_other(spec: str, own: str | None) -> Pictures | None:
    """The images of `spec`, a source that may have no splits.

    The result is None if `spec` is the source `own` that a model was trained on, or always has
    splits: arrays, CIFAR and the digits.
    """
    return None if own is not None and _is_same(spec, own) else _open(spec)


def _is_same(spec: str, own: str) -> bool:
    if is_name(spec) and is_name(own):
        library = _library(spec)
        return spec == own or bool(
            library and library == _library(own) and library.is_same(spec, own)
        )
    return not (is_name(spec) or is_name(own)) and Path(spec).resolve() == Path(own).resolve()


def _open(spec: str) -> Pictures | None:
    """Open a folder, a table or a set of a library. The result is None for other data."""
    if spec in SIZES:
        return None
    if library := _library(spec):
        return library.open_set(spec)
    path = Path(spec)
    if path.is_dir():
        return open_folder(path)
    return tables.open_table(path) if tables.is_table(path) else None


def _library(spec: str) -> Any:
    """The module of the library whose set `spec` names, if it names one."""
    return next((module for prefix, module in SETS.items() if spec.startswith(prefix)), None)


def is_name(spec: str) -> bool:
    """Whether `spec` is the name of a data set rather than a path."""
    return spec in SIZES or _library(spec) is not None


def is_here(spec: str) -> bool:
    """Whether `load` reads this data set without a download."""
    if library := tensorflow_sets if spec in TFDS else _library(spec):
        return library.is_prepared(spec)
    return spec == "digits" or Path(spec).exists()


def _load_digits() -> Dataset:
    """The digits of scikit-learn. The first half is for training, as in scikit-learn's example.

    The digits are sorted by writer, so that few writers are in both halves.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target.astype(np.int32)
    half = len(labels) // 2
    return Dataset(
        "digits",
        tuple(str(name) for name in digits.target_names),
        Split(images[:half], labels[:half]),
        Split(images[half:], labels[half:]),
    )
