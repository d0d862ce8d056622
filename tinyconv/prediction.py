"""What a model says about image files: found, read, asked and shown, a batch at a time."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from tinyconv import data, terminal
from tinyconv.errors import InputError

BATCH = 64
TOP = 5
BAR = 30


def image_files(names: Iterable[str]) -> list[Path]:
    """The image files that `names` stand for: files, folders with all below them, and globs.

    The longest leading part of a name that exists is taken literally; the rest is a glob. A file
    that is named is taken whatever its ending. A file that does not exist is kept, so that reading
    it reports the error and the other files are still read.

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
    model: keras.Model, files: Sequence[Path], probabilities: bool = False
) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    """Each file with its probabilities (classes,), or with the error that kept it from having any.

    The outputs of `model` are logits, or already `probabilities`. Files are read a batch at a time,
    as the answers are asked for; their order is kept.
    """
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        read = [_read(file, model.input_shape[1:3]) for file in batch]
        images = [image for image in read if isinstance(image, np.ndarray)]
        outputs = iter(model.predict_on_batch(np.stack(images)) if images else ())
        for file, image in zip(batch, read, strict=True):
            if isinstance(image, InputError):
                yield file, image
                continue
            row = np.asarray(next(outputs), np.float32)
            row = row if probabilities else softmax(row)
            nan = InputError(f"The model puts out NaN for {file}.")
            yield file, nan if np.isnan(row).any() else row


def records(
    model: keras.Model,
    files: Sequence[Path],
    class_names: Sequence[str],
    probabilities: bool = False,
) -> Iterator[dict[str, Any]]:
    """For each file a dict for JSON: `image`, and `top`, its likeliest classes, or `error`."""
    for file, answer in answers(model, files, probabilities):
        record: dict[str, Any] = {"image": data.text(file)}
        if isinstance(answer, InputError):
            yield record | {"error": str(answer)}
        else:
            yield record | {"top": best(answer, class_names)}


def _read(file: Path, size: tuple[int, int]) -> np.ndarray | InputError:
    if file.is_dir():
        return InputError(f"{file} has no images.")
    if not file.exists():
        return InputError(f"There is no file {file}.")
    try:
        return data.read_image(file, size)
    except InputError as error:
        return error


def best(probabilities: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The five likeliest classes, the likeliest first, for JSON."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return [
        {"class": class_names[i], "index": int(i), "probability": float(probabilities[i])}
        for i in order
    ]


def text(record: dict[str, Any]) -> str:
    """A record of a file and its likeliest classes, with bars, for a terminal."""
    top = record["top"]
    width = max(len(entry["class"]) for entry in top)
    lines = [
        f"  {entry['class']:<{width}}  {entry['probability']:>6.1%}  {bar(entry['probability'])}"
        for entry in top
    ]
    return "\n".join([record["image"], *(line.rstrip() for line in lines)])


def bar(share: float) -> str:
    """A bar for a share of 0 to 1, by eighths of a character where the terminal has them."""
    if not terminal.shows("█▏"):
        return "#" * round(BAR * share)
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
