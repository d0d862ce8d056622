"""A folder of images, one subfolder per class."""

import math
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import keras
import numpy as np

from tinyconv.data.images import image_files, read_image, text
from tinyconv.data.splits import Dataset, OnDisk, Split, split_by_class
from tinyconv.errors import InputError

IN_MEMORY = 2 * 2**30  # bytes; a folder that is larger, once decoded, is kept on disk
CHUNK = 256  # images that are decoded side by side


def load_folder(folder: Path, size: tuple[int, int]) -> Dataset:
    parts = [part for part in ("train", "test") if (folder / part).is_dir()]
    if len(parts) == 1:
        raise InputError(
            f"{folder} has {parts[0]}/ alone; it needs both train/ and test/, or neither."
        )
    if parts:
        train_files, test_files = (_list_images(folder / part) for part in parts)
        if unseen := sorted(set(test_files) - set(train_files)):
            raise InputError(
                f"{folder}/test has class {unseen[0]!r}, which {folder}/train has not."
            )
        names = tuple(train_files)
        train, test = (_read_images(files, names, size) for files in (train_files, test_files))
    else:
        files = _list_images(folder)
        names = tuple(files)
        everything = _read_images(files, names, size)
        count = max(len(names), len(everything) // 5)
        kept, held = split_by_class(everything.labels, count, seed=0)
        train, test = everything.take(kept), everything.take(held)
    return Dataset(text(folder.resolve().name), tuple(map(text, names)), train, test)


def _list_images(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both in alphabetical order."""
    classes = {
        subfolder.name: image_files(subfolder)
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir() and not subfolder.name.startswith(".")
    }
    if not any(classes.values()):
        raise InputError(f"{folder} has no images; it needs one subfolder of images per class.")
    if empty := [name for name, files in classes.items() if not files]:
        raise InputError(f"{folder / empty[0]} has no images; remove it or fill it.")
    return classes


def _read_images(
    classes: dict[str, list[Path]], names: tuple[str, ...], size: tuple[int, int]
) -> Split:
    files = [file for name in classes for file in classes[name]]
    labels = [names.index(name) for name in classes for _ in classes[name]]
    shape = (*size, 3)
    on_disk = len(files) * math.prod(shape) > IN_MEMORY
    images = np.empty((0 if on_disk else len(files), *shape), np.uint8)
    stored = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 - goes with the last Split
    progress = keras.utils.Progbar(len(files), unit_name="image", verbose=sys.stdout.isatty())
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), CHUNK):
            chunk = files[start : start + CHUNK]
            decoded = list(threads.map(read_image, chunk, [size] * len(chunk)))
            if stored:
                _append(stored, decoded)
            else:
                images[start : start + len(chunk)] = decoded
            progress.update(start + len(chunk))
    if stored:
        return Split(OnDisk(stored, np.arange(len(files)), shape), np.array(labels, np.int32))
    return Split(images, np.array(labels, np.int32))


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
