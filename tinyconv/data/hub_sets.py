"""Image classification sets of the Hugging Face Hub, by the library `datasets`."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyconv.data.columns import Row, choose_column, open_columns
from tinyconv.data.pictures import Pictures
from tinyconv.errors import InputError, cause

PREFIX = "hf:"
WORD = r"\w[\w.-]*"
FORM = re.compile(f"hf:({WORD}/{WORD})(?::({WORD}))?")


def open_set(spec: str) -> Pictures:
    """Open a set, and download it if it is not in the cache of `datasets`.

    Args:
        spec: hf:OWNER/NAME or hf:OWNER/NAME:CONFIG. As in `datasets`, a folder OWNER/NAME in the
            working directory comes before the Hub; a line is then printed.

    Returns:
        The splits. Their images are not read yet.

    Raises:
        InputError: `datasets` is not installed; the set cannot be loaded, or has no images with one
            class each.
    """
    name, config = _parse(spec)
    datasets = _library(spec)
    if Path(name).is_dir():
        print(f"{spec} is read from the folder {Path(name).absolute()}", file=sys.stderr)
    try:
        sets = datasets.load_dataset(name, config)
    except Exception as error:  # the library and the parsers of many formats raise many types
        raise InputError(
            f"{spec} cannot be loaded by the library datasets ({cause(error)}); check the name and "
            "the network."
        ) from error
    features = next(iter(sets.values())).features
    kinds = {column: _kind(feature) for column, feature in features.items()}
    image = choose_column(spec, "Image", kinds, ["image", "img"])
    label = choose_column(spec, "ClassLabel", kinds, ["label", "fine_label"])

    def rows(split: str) -> Iterator[Row]:
        own = sets[split].select_columns([image, label])
        for row in own.cast_column(image, datasets.Image(decode=False)):
            encoded, number = row[image] or {}, row[label]
            path = encoded.get("path")
            content = encoded.get("bytes") or (Path(path) if path else b"")
            yield content, -1 if number is None else number

    counts = {split: len(own) for split, own in sets.items()}
    folder = "-".join(filter(None, [*name.split("/"), config]))
    return open_columns(spec, folder, tuple(features[label].names), counts, rows)


def is_prepared(spec: str) -> bool:
    """Whether a set is known and needs no download."""
    return Path(_parse(spec)[0]).is_dir() or bool((kept := _cache(spec)) and kept.exists())


def is_same(spec: str, other: str) -> bool:
    """Whether two names are of the same set and configuration."""
    return _parse(spec)[0] == _parse(other)[0] and _cache(spec) == _cache(other)


def _cache(spec: str) -> Path | None:
    """The folder in the cache for a set. The result is None if `datasets` does not know the set."""
    name, config = _parse(spec)
    try:
        return Path(_library(spec).load_dataset_builder(name, config).cache_dir)
    except Exception:  # not installed, not known, no network
        return None


def _parse(spec: str) -> tuple[str, str | None]:
    if not (match := FORM.fullmatch(spec)):
        raise InputError(
            f"{spec!r} is not the name of a data set on the Hub: hf:OWNER/NAME or "
            "hf:OWNER/NAME:CONFIG."
        )
    return match[1], match[2]


def _library(spec: str) -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"{spec} needs the library datasets: pip install 'tinyconv[hub-data]'.")
    import datasets

    return datasets


def _kind(feature: Any) -> str:
    """The type of a column. A column of plain values is named by their type."""
    kind = type(feature).__name__
    return feature.dtype if kind == "Value" else kind
