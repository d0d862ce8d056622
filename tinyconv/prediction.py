"""Predictions of a model for image files, computed batch by batch."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv import data, terminal
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.machine import cores
from tinyconv.outputs import predict_batch, to_probabilities

BATCH = 64
TWIN_FROM = 1000  # images from which on the twin saves more time than its construction takes
MOST_READERS = 8  # threads; each may hold an image of 50 million pixels
TOP = 5
BAR = 30


def image_files(names: Iterable[str]) -> list[Path]:
    """Find the image files that `names` stand for.

    A name is a file, a folder or a glob. A folder stands for all image files in it and its
    subfolders. The longest leading part of a name that exists is taken literally. The rest is a
    glob. A named file may have any ending. The result also has the names that do not exist: the
    attempt to read such a file gives its error, and the other files are still read.

    Raises:
        InputError: a name is empty.
    """
    found: list[Path] = []
    for name in names:
        if not name:
            raise InputError("An image has an empty name; name a file, a folder or a glob.")
        for path in _matches(Path(name)):
            found += (data.image_files(path) if path.is_dir() else []) or [path]
    return found


def _matches(path: Path) -> list[Path]:
    literal = next(part for part in (path, *path.parents) if os.path.lexists(part))
    if literal == path:
        return [path]
    pattern = str(Path(glob.escape(str(literal))) / path.relative_to(literal))
    # `glob` takes an absolute pattern; `Path.glob` does not.
    return sorted(map(Path, glob.glob(pattern, recursive=True))) or [path]  # noqa: PTH207


def answers(
    model: keras.Model,
    files: Sequence[Path],
    probabilities: bool = False,
    crop: data.Crop | None = None,
) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    """Yield each file with its probabilities (classes,), or with its error.

    The files are read in batches, one batch ahead of the results that the caller asks for.

    Args:
        model: the model.
        files: the image files.
        probabilities: whether the outputs of the model are probabilities rather than logits.
        crop: as for `tinyconv.data.read_image`.
    """
    run = _runner(model, len(files))
    for batch, read in _read_ahead(files, model.input_shape[1:3], crop):
        images = [image for image in read if isinstance(image, np.ndarray)]
        with terminal.without_misleading_logs():
            outputs = iter(run(np.stack(images)) if images else ())
        for file, image in zip(batch, read, strict=True):
            if isinstance(image, InputError):
                yield file, image
                continue
            row = to_probabilities(np.asarray(next(outputs), np.float32), probabilities)
            nan = InputError(f"The model puts out NaN for {file}.")
            yield file, nan if np.isnan(row).any() else row


def _runner(model: keras.Model, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """The fastest function from a batch of images to outputs, for `count` images in all."""
    if count <= BATCH:
        return partial(predict_batch, model)
    with suppress(InputError):  # of settings for a training on several machines
        if count >= TWIN_FROM and Devices().can_fuse:
            from tinyconv.fast.twin import twin

            model = twin(model, training=False)
    return model.predict_on_batch


def _read_ahead(
    files: Sequence[Path], size: tuple[int, int], crop: data.Crop | None
) -> Iterator[tuple[Sequence[Path], list[np.ndarray | InputError]]]:
    """Yield batches of files with their images.

    Threads read the next batch while the caller uses the current one.
    """
    read = partial(_read, size=size, crop=crop)
    pool = ThreadPoolExecutor(min(cores(), MOST_READERS))
    try:
        ahead: deque = deque()
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            ahead.append((batch, pool.map(read, batch)))
            if len(ahead) == 2:
                batch, images = ahead.popleft()
                yield batch, list(images)
        for batch, images in ahead:
            yield batch, list(images)
    finally:
        pool.shutdown(cancel_futures=True)


def records(
    model: keras.Model,
    files: Sequence[Path],
    class_names: Sequence[str],
    probabilities: bool = False,
    crop: data.Crop | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a dict for JSON for each file: `image` and either `top` or `error`.

    Args:
        model: the model.
        files: the image files.
        class_names: the names of the outputs of the model.
        probabilities: as for `answers`.
        crop: as for `answers`.
    """
    for file, answer in answers(model, files, probabilities, crop):
        record: dict[str, Any] = {"image": data.text(file)}
        if isinstance(answer, InputError):
            yield record | {"error": str(answer)}
        else:
            yield record | {"top": best(answer, class_names)}


def _read(file: Path, size: tuple[int, int], crop: data.Crop | None) -> np.ndarray | InputError:
    if file.is_dir():
        return InputError(f"{file} has no images.")
    if not file.exists():
        return InputError(f"There is no file {file}.")
    try:
        return data.read_image(file, size, crop)
    except InputError as error:
        return error


def best(probabilities: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The five most probable classes in order of their probability, as dicts for JSON."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return [
        {"class": class_names[i], "index": int(i), "probability": float(probabilities[i])}
        for i in order
    ]


def text(record: dict[str, Any]) -> str:
    """A record with `top` as text for a terminal, with a bar for each class."""
    top = record["top"]
    width = max(len(entry["class"]) for entry in top)
    lines = [
        f"  {entry['class']:<{width}}  {entry['probability']:>6.1%}  {bar(entry['probability'])}"
        for entry in top
    ]
    return "\n".join([record["image"], *(line.rstrip() for line in lines)])


def bar(share: float) -> str:
    """A bar of characters for a share in 0..1.

    The bar has a resolution of an eighth of a character if stdout can encode block characters.
    """
    if not terminal.shows("█▏"):
        return "#" * round(BAR * share)
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
