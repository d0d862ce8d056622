"""Images in folders: one subfolder per class, in one folder or in a folder per split."""

import math
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import keras
import numpy as np

from tinyconv.data.files import print_skipped, stray
from tinyconv.data.images import Crop, read_image, text
from tinyconv.data.layout import find_splits, list_classes, meant
from tinyconv.data.splits import Dataset, OnDisk, Split, check_classes, split_by_content
from tinyconv.errors import InputError

IN_MEMORY = 2 * 2**30  # bytes; more decoded images than that are kept on disk
CHUNK = 256  # images that are decoded in parallel

Classes = dict[str, list[Path]]


def load_folder(folder: Path, size: tuple[int, int], holdout: int = 0) -> Dataset:
    """Read all splits of a folder.

    Args:
        folder: a folder with one subfolder per class, or with such folders named train, val, test.
        size: (height, width) in pixels that every image is resized to.
        holdout: the number of training images that the caller will set aside.

    Returns:
        The data set. In a folder without splits, a fifth of each class is the test split.

    Raises:
        InputError: the folders have no clear meaning, or an image is damaged.
    """
    splits = find_splits(folder)
    if splits and ("train" not in splits or len(splits) == 1):
        raise InputError(
            f"{folder} has {'/ and '.join(splits)}/ alone; it needs train/ and test/ (or val/), or "
            "classes and no splits."
        )
    if holdout and len(splits) == 3:
        raise InputError(
            f"{splits['val']} is already the part to validate on; leave out --holdout {holdout}."
        )
    parts = _list(folder, splits or {"train": folder})
    names = tuple(parts["train"])
    for part, classes in parts.items():
        if unseen := sorted(set(classes) - set(names)):
            raise InputError(
                f"{splits[part]} has class {unseen[0]!r}, which {splits['train']} does not have."
            )
        if missing := [name for name in names if name not in classes]:
            print(f"{splits[part]} has no class {', '.join(map(repr, missing))}.", file=sys.stderr)
    check_classes(splits.get("train", folder), names, "" if splits else meant(folder))
    shown = _show(folder, names)
    read = _read_splits(folder, parts, names, size)
    name = text(folder.resolve().name)
    if not splits:
        everything = read["train"]
        kept, held = split_by_content(everything.images, everything.labels)
        return Dataset(name, shown, everything.take(kept), everything.take(held))
    if "test" not in read:
        return Dataset(name, shown, read["train"], read["val"], test_name="val")
    return Dataset(name, shown, read["train"], read["test"], read.get("val"))


def load_test_folder(
    folder: Path, size: tuple[int, int], crop: Crop | None = None
) -> tuple[Split, tuple[str, ...], str]:
    """Read the images of a folder to evaluate a model on.

    In a folder with splits, the images are those of test/, or of val/ if test/ does not exist. In a
    folder without splits, they are all images.

    Args:
        folder: as for `load_folder`.
        size: (height, width) in pixels that every image is resized to.
        crop: as for `read_image`.

    Returns:
        The images and labels, the names of the classes, and a description of the images.

    Raises:
        InputError: as for `load_folder`, or the folder has only train/.
    """
    splits = find_splits(folder)
    part = next((part for part in ("test", "val") if part in splits), "train")
    if splits and part == "train":
        raise InputError(
            f"{folder} has train/ alone; give {splits[part]} to evaluate its images all the same."
        )
    where = splits.get(part, folder)
    parts = _list(folder, {part: where})
    names = tuple(parts[part])
    split = _read_splits(folder, parts, names, size, crop)[part]
    which = f"all of {where.relative_to(folder)}/" if splits else "all of them"
    return split, _show(folder, names), which


def _list(folder: Path, splits: dict[str, Path]) -> dict[str, Classes]:
    """The classes of each split."""
    parts: dict[str, Classes] = {}
    skipped = Counter() if folder in splits.values() else stray(folder)
    for part, path in splits.items():
        parts[part], others = list_classes(path)
        skipped += others
    print_skipped(folder, skipped)
    return parts


def _show(folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes as valid UTF-8."""
    shown = tuple(map(text, names))
    if twice := [name for name, count in Counter(shown).items() if count > 1]:
        raise InputError(f"{folder} has two classes that both read {twice[0]!r}; rename one.")
    return shown


def _read_splits(
    folder: Path,
    parts: dict[str, Classes],
    names: tuple[str, ...],
    size: tuple[int, int],
    crop: Crop | None = None,
) -> dict[str, Split]:
    files = [path for classes in parts.values() for paths in classes.values() for path in paths]
    images = _read_images(folder, files, size, crop)
    splits, start = {}, 0
    for part, classes in parts.items():
        labels = [names.index(name) for name, paths in classes.items() for _ in paths]
        rows = slice(start, start := start + len(labels))
        own = images.take(rows) if isinstance(images, OnDisk) else images[rows]
        splits[part] = Split(own, np.array(labels, np.int32))
    return splits


def _read_images(
    folder: Path, files: list[Path], size: tuple[int, int], crop: Crop | None
) -> np.ndarray | OnDisk:
    """Read all images (N, height, width, 3).

    Every file is read before an error is raised, and the error counts all damaged files.
    """
    shape = (*size, 3)
    on_disk = len(files) * math.prod(shape) > IN_MEMORY
    images = np.empty((0 if on_disk else len(files), *shape), np.uint8)
    stored = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 - closed with the last Split
    progress = keras.utils.Progbar(len(files), unit_name="image", verbose=sys.stdout.isatty())
    failed: list[tuple[Path, InputError]] = []

    def read_chunk(start: int) -> None:
        chunk = files[start : start + CHUNK]
        decoded = list(threads.map(lambda file: _try(file, size, crop), chunk))
        good = [image for image in decoded if isinstance(image, np.ndarray)]
        if len(good) < len(chunk):
            tried = zip(chunk, decoded, strict=True)
            failed.extend((file, e) for file, e in tried if isinstance(e, InputError))
        elif stored:
            _append(stored, good)
        else:
            images[start : start + len(chunk)] = good
        progress.update(start + len(chunk))

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), CHUNK):
            read_chunk(start)
    if failed:
        raise _failure(folder, failed, len(files))
    return OnDisk(stored, np.arange(len(files)), shape) if stored else images


def _try(file: Path, size: tuple[int, int], crop: Crop | None) -> np.ndarray | InputError:
    try:
        return read_image(file, size, crop)
    except InputError as error:
        return error


def _failure(folder: Path, failed: list[tuple[Path, InputError]], count: int) -> InputError:
    """One error for all images that cannot be read. It names the first ten images."""
    path, first = failed[0]
    if len(failed) == 1:
        return first
    names = ", ".join(str(file.relative_to(folder)) for file, _ in failed[:10])
    more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
    reason = str(first).removeprefix(f"{path} ")
    return InputError(
        f"{len(failed)} of {count} images in {folder} cannot be used, {names}{more}; the first "
        f"{reason}"
    )


def _append(file: IO[bytes], images: list[np.ndarray]) -> None:
    try:
        for image in images:
            file.write(image.tobytes())
        file.flush()
    except OSError as error:
        raise InputError(
            f"The decoded images do not fit into {tempfile.gettempdir()} ({error.strerror}); set "
            "TMPDIR to a folder on a larger disk."
        ) from error
