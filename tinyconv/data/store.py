"""Decoding of many image files, into memory or into a temporary file."""

import itertools
import math
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import keras
import numpy as np

from tinyconv.data.images import Crop, Encoded, read_image
from tinyconv.data.splits import OnDisk
from tinyconv.errors import InputError

IN_MEMORY = 2 * 2**30  # bytes; more decoded images than that are kept on disk
CHUNK = 256  # images that are decoded in parallel

File = Path | Encoded


def read_images(
    source: str | Path, files: Iterable[File], count: int, size: tuple[int, int], crop: Crop | None
) -> np.ndarray | OnDisk:
    """Read all images (N, height, width, 3).

    Every file is read before an error is raised, and the error counts all damaged files.

    Args:
        source: the source of the files, for messages.
        files: the files.
        count: their number.
        size: (height, width) in pixels that every image is resized to.
        crop: as for `read_image`.

    Raises:
        InputError: files are damaged, or the temporary disk is full.
    """
    shape = (*size, 3)
    on_disk = count * math.prod(shape) > IN_MEMORY
    images = np.empty((0 if on_disk else count, *shape), np.uint8)
    stored = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 - closed with the last Split
    progress = keras.utils.Progbar(count, unit_name="image", verbose=sys.stdout.isatty())
    failed: list[tuple[File, InputError]] = []
    waiting, start = iter(files), 0
    with ThreadPoolExecutor() as threads:
        while chunk := list(itertools.islice(waiting, CHUNK)):
            decoded = list(threads.map(lambda file: _try(file, size, crop), chunk))
            good = [image for image in decoded if isinstance(image, np.ndarray)]
            if len(good) < len(chunk):
                tried = zip(chunk, decoded, strict=True)
                failed.extend((file, e) for file, e in tried if isinstance(e, InputError))
            elif stored:
                _append(stored, good)
            else:
                images[start : start + len(chunk)] = good
            start += len(chunk)
            progress.update(start)
    if failed:
        raise _failure(source, failed, count)
    return OnDisk(stored, np.arange(count), shape) if stored else images


def _try(file: File, size: tuple[int, int], crop: Crop | None) -> np.ndarray | InputError:
    try:
        return read_image(file, size, crop)
    except InputError as error:
        return error


def _failure(source: str | Path, failed: list[tuple[File, InputError]], count: int) -> InputError:
    """One error for all images that cannot be read. It names the first ten images."""
    path, first = failed[0]
    if len(failed) == 1:
        return first
    names = ", ".join(str(file).removeprefix(f"{source}/") for file, _ in failed[:10])
    more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
    reason = str(first).removeprefix(f"{path} ")
    return InputError(
        f"{len(failed)} of {count} images in {source} cannot be used, {names}{more}; the first "
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
