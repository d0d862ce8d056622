"""Data sets by name or path: TensorFlow Datasets, digits, arrays and folders."""

import contextlib
import difflib
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyconv.data.arrays import load_npz
from tinyconv.data.folders import load_folder, load_test_folder
from tinyconv.data.images import Crop, resize
from tinyconv.data.layout import meant
from tinyconv.data.ranges import Range, check_range
from tinyconv.data.splits import Dataset, Split, check_classes, shared, split_by_class
from tinyconv.errors import InputError

TFDS = ("cifar10", "cifar100")
SIZES = dict.fromkeys((*TFDS, "digits"), (32, 32))  # input size of a new net, in pixels


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
            scikit-learn. An `.npz` file has x_train, y_train, x_test, y_test and optionally
            class_names. A folder has one subfolder of images per class, or train/ and test/ with
            such subfolders. The rules are in docs/data.md.
        size: (height, width) in pixels that every image is resized to.
        holdout: the number of training images to set aside for validation. Each class keeps its
            share.
        seed: selects the images to set aside.
        data_range: the values of black and white in an `.npz`. Default: 0 and 255.
        crop: as for `read_image`, for arrays that do not have that size. Not used for folders.

    Returns:
        The data set. The number of test images that are also training images is printed.

    Raises:
        InputError: the source does not exist, cannot be read, or has other content.
    """
    if holdout < 0:
        raise InputError(f"The holdout is {holdout} images; it must be 0 or more.")
    if data_range is not None:
        data_range = check_range(data_range)
        if spec in SIZES or Path(spec).is_dir():
            raise InputError(f"--data-range is for the arrays of an .npz file; {spec} needs none.")
    if spec in TFDS:
        dataset = _load_tfds(spec)
    elif spec == "digits":
        dataset = _load_digits()
    elif Path(spec).is_dir():
        dataset = load_folder(Path(spec), size, holdout)
    elif Path(spec).is_file():
        dataset = load_npz(Path(spec), data_range)
    else:
        near = difflib.get_close_matches(spec, (*TFDS, "digits"), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "no such file or folder."
        known = "cifar10, cifar100, digits, FILE.npz or a FOLDER of images"
        raise InputError(f"Unknown data {spec!r} ({known}): {hint}")
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
        spec: as for `load`. All images of a folder without splits are read, unless the model was
            trained on that folder.
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
    folder = Path(spec)
    is_folder = spec not in SIZES and folder.is_dir()
    if data_range is None and is_another_folder(spec, own):
        split, names, which = load_test_folder(folder, size, crop)
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
        hint = meant(folder) if is_folder and len(names) == 1 else ""
        known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
        raise InputError(
            f"{spec} has class {unknown[0]!r}, which the model does not know ({known}){hint or '.'}"
        )
    indices = np.array([class_names.index(name) for name in names], np.int32)
    what += f", in {len(names)} of the model's {len(class_names)} classes"
    return Split(split.images, indices[split.labels]), class_names, what


def is_another_folder(spec: str, own: str | None) -> bool:
    """Whether `spec` is a folder, and not the folder `own` that a model was trained on."""
    folder = Path(spec)
    is_own = own is not None and folder.resolve() == Path(own).resolve()
    return spec not in SIZES and folder.is_dir() and not is_own


def is_here(spec: str) -> bool:
    """Whether `load` reads this data set without a download."""
    if spec in TFDS:
        import tensorflow_datasets as tfds

        return tfds.builder(spec).data_path.exists()
    return spec == "digits" or Path(spec).exists()


def _load_tfds(name: str) -> Dataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    where = tfds.core.constants.DATA_DIR
    if not builder.data_path.exists():
        try:
            # Fails at once without a network; the downloader would retry for minutes.
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(builder.info.homepage, timeout=10).close()
            builder.download_and_prepare()
        except Exception as error:
            raise InputError(
                f"{name} is not prepared in {where} and cannot be downloaded ({_cause(error)}): "
                "go online, set TFDS_DATA_DIR to where it is, or use --data digits, "
                "--data FOLDER or --data FILE.npz."
            ) from error
    try:
        train, test = (builder.as_dataset(split=s, batch_size=-1) for s in ("train", "test"))
    except Exception as error:
        raise InputError(
            f"{name} in {where} cannot be read ({_cause(error)}): remove it to prepare it anew."
        ) from error
    splits = [
        Split(part["image"].numpy(), part["label"].numpy().astype(np.int32))
        for part in (train, test)
    ]
    return Dataset(name, tuple(builder.info.features["label"].names), splits[0], splits[1])


def _cause(error: Exception) -> str:
    """An error of another library, shortened to one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:150]


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
