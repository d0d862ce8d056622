"""Every source of images by its name: TensorFlow Datasets, digits, arrays, folders."""

import contextlib
import difflib
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyconv.data.arrays import load_npz
from tinyconv.data.folders import load_folder, load_test_folder
from tinyconv.data.images import resize
from tinyconv.data.layout import meant
from tinyconv.data.ranges import Range, check_range
from tinyconv.data.splits import Dataset, Split, check_classes, shared, split_by_class
from tinyconv.errors import InputError

TFDS = ("cifar10", "cifar100")
SIZES = dict.fromkeys((*TFDS, "digits"), (32, 32))  # in pixels, to build a net for


def load(
    spec: str,
    size: tuple[int, int],
    holdout: int = 0,
    seed: int = 0,
    data_range: Range | None = None,
) -> Dataset:
    """Read a data set.

    Args:
        spec: "cifar10" or "cifar100" (by TensorFlow Datasets, which reads the environment variable
            TFDS_DATA_DIR); "digits" (scikit-learn's 1,797 handwritten digits, no download); the
            path of an `.npz` with x_train, y_train, x_test, y_test and perhaps class_names; or the
            path of a folder with one subfolder of images per class, perhaps under train/ and test/
            (docs/data.md has the rules).
        size: (height, width) in pixels that every image is resized to.
        holdout: how many training images to set aside for validation, in the classes' proportions.
        seed: which ones.
        data_range: the values of black and white in an `.npz`. Default: 0 and 255.

    Returns:
        The data set. How many test images are also training images is printed.

    Raises:
        InputError: the source is not there, cannot be read, or holds something else.
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
        Split(resize(split.images, size), split.labels) for split in (dataset.train, dataset.test)
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
) -> tuple[Split, tuple[str, ...], str]:
    """Read the images to evaluate a trained model on.

    Args:
        spec: as for `load`. A folder without splits is read whole, unless the model was trained on
            it.
        size: (height, width) in pixels that every image is resized to.
        class_names: those of the model, if they are known; labels become indices into these.
        own: what the model was trained on, if that is known.
        data_range: as for `load`.

    Returns:
        The images, the names that their labels stand for, and in words what they are.

    Raises:
        InputError: as for `load`, or a class is none of `class_names`.
    """
    folder = Path(spec)
    is_folder = spec not in SIZES and folder.is_dir()
    if data_range is None and is_another_folder(spec, own):
        split, names, which = load_test_folder(folder, size)
    else:
        dataset = load(spec, size, data_range=data_range)
        split, names = dataset.test, dataset.class_names
        which = f"its {dataset.test_name} part"
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
            # Without a network the downloader itself gives up only after minutes of retries.
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
    """An error of another library in a few words of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:150]


def _load_digits() -> Dataset:
    """The first half to train on, the second to test on, as in scikit-learn's own example.

    The digits come writer by writer, so the test's hands were hardly seen in training.
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
