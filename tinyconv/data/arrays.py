"""Arrays of images and labels in an `.npz` file."""

import sys
from pathlib import Path

import numpy as np

from tinyconv.data.images import text
from tinyconv.data.labels import read_labels
from tinyconv.data.ranges import Range, to_bytes
from tinyconv.data.splits import Dataset, Split
from tinyconv.errors import InputError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path, data_range: Range | None = None) -> Dataset:
    """Read an `.npz` file, and print a line for each assumption about its arrays.

    Args:
        path: the file; `docs/data.md` says which arrays it may hold.
        data_range: the values of black and white. Default: 0 and 255.

    Returns:
        The data set, with images (N, H, W, 3) in uint8 at their own size.

    Raises:
        InputError: the file cannot be read, lacks an array, or has an ambiguous array.
    """
    arrays = _read(path)
    images, notes = {}, []
    for key in ("x_train", "x_test"):
        images[key], first = _channels_last(arrays[key], f"{key} in {path}")
        if first:
            notes.append(f"{key} is (N, {images[key].shape[-1]}, H, W); it is read as (N, H, W, C)")
    pixels, assumed = to_bytes(images, path, data_range)
    counts = {f"y_{part}": len(images[f"x_{part}"]) for part in ("train", "test")}
    names, labels, more = read_labels(arrays, counts, path)
    for note in (*notes, *assumed, *more):
        print(f"{text(path)}: {note}", file=sys.stderr)
    train, test = (
        Split(np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x, y)
        for x, y in zip(pixels, labels, strict=True)
    )
    return Dataset(text(path.stem), names, train, test)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in (*ARRAYS, "class_names") if key in file}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("something other than an array")
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; give a folder of images.") from error
    except Exception as error:  # a damaged archive raises errors of many types
        raise InputError(
            f"{path} is not an .npz file of plain arrays; make it by np.savez."
        ) from error
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it needs {', '.join(ARRAYS)}.")
    return arrays


def _channels_last(images: np.ndarray, what: str) -> tuple[np.ndarray, bool]:
    """Move the channels of `images` to the end.

    Returns:
        The images (N, H, W, 1 or 3), and whether the channels of the file came first.
    """
    shape = images.shape
    if 0 in shape:
        raise InputError(f"{what} has shape {shape}; it must have at least one image.")
    first, last = (len(shape) > 2 and shape[axis] in (1, 3) for axis in (1, -1))
    if len(shape) == 3 and not (first or last):
        return images[..., None], False
    if len(shape) in (3, 4) and (len(shape) == 3 or (first and last)):
        raise InputError(
            f"{what} has shape {shape}, which may mean more than one order of its axes; images are "
            "(N, height, width, 3)."
        )
    if len(shape) != 4 or not (first or last):
        raise InputError(
            f"{what} has shape {shape}; images are (N, height, width, 3), or grey ones "
            "(N, height, width)."
        )
    return (np.moveaxis(images, 1, -1), True) if first else (images, False)
