"""Arrays of images and labels in an `.npz` file."""

from pathlib import Path

import numpy as np

from tinyconv.data.images import text
from tinyconv.data.splits import Dataset, Split
from tinyconv.errors import InputError

MAX_CLASSES = 100_000
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in (*ARRAYS, "class_names") if key in file}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("something other than an array")
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; give a folder of images.") from error
    except Exception as error:  # what a damaged archive raises is anyone's guess
        raise InputError(
            f"{path} is not an .npz file of plain arrays; make it by np.savez."
        ) from error
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it needs {', '.join(ARRAYS)}.")
    splits = []
    for part in ("train", "test"):
        x, y = f"x_{part}", f"y_{part}"
        images = _check_images(arrays[x], f"{x} in {path}")
        labels = _check_labels(arrays[y], len(images), f"{y} in {path}")
        splits.append(Split(images, labels))
    train, test = splits
    if "class_names" in arrays:
        names = _check_names(arrays["class_names"], f"class_names in {path}")
    else:
        names = tuple(map(str, range(int(train.labels.max()) + 1)))
        if empty := sorted(set(range(len(names))) - set(train.labels.tolist())):
            raise InputError(
                f"y_train in {path} goes up to {len(names) - 1}, but has no {empty[0]}; "
                "labels count up from 0, or class_names says what they are."
            )
    for part, split in (("train", train), ("test", test)):
        if split.labels.max() >= len(names):
            raise InputError(
                f"y_{part} in {path} has label {split.labels.max()}; "
                f"with {len(names)} classes labels are 0 to {len(names) - 1}."
            )
    return Dataset(text(path.stem), names, train, test)


def _check_names(names: np.ndarray, what: str) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise InputError(f"{what} has shape {names.shape}; it is a list of strings, one per class.")
    try:
        found = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
    except (ValueError, SystemError) as error:  # bytes and code points that are no text
        raise InputError(f"{what} is damaged; it is a list of strings, one per class.") from error
    if len(set(found)) < len(found):
        raise InputError(f"{what} has a name twice; every class needs one of its own.")
    return found


def _check_images(images: np.ndarray, what: str) -> np.ndarray:
    """Images of any real type in 0..255, grey or RGB, as (N, H, W, 3) in uint8."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{what} has shape {images.shape}; images are (N, height, width, 3), or grey ones "
            "(N, height, width)."
        )
    if images.dtype.kind not in "uif":
        raise InputError(f"{what} is of type {images.dtype}; images are numbers in 0..255.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise InputError(f"{what} runs from {low} to {high}; images are numbers in 0..255.")
    if images.dtype.kind == "f" and high <= 1:
        raise InputError(
            f"{what} runs from {low} to {high}; multiply by 255: images are in 0..255."
        )
    if images.dtype != np.uint8:
        images = np.rint(images).astype(np.uint8)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _check_labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise InputError(f"{what} has shape {labels.shape}; {count} images need ({count},).")
    if labels.dtype.kind not in "ui":
        raise InputError(f"{what} is of type {labels.dtype}; labels are integers from 0 up.")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < MAX_CLASSES:
            raise InputError(f"{what} has label {label}; labels are 0 to {MAX_CLASSES - 1}.")
    return labels.astype(np.int32)
