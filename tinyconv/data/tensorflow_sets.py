"""CIFAR and any other image classification set of TensorFlow Datasets."""

import contextlib
import difflib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.data.columns import Row, choose_column, open_columns
from tinyconv.data.pictures import Pictures
from tinyconv.data.splits import Dataset, Split
from tinyconv.errors import InputError, cause, unknown

PREFIX = "tfds:"
VERSION = re.compile(
    r"\w+(/.*|:[\d*]+\.[\d*]+\.[\d*]+)"
)  # NAME/CONFIG and NAME:1.0.0 need no change
STORE = "https://storage.googleapis.com"  # has most sets, whether or not their homepage answers


def open_set(spec: str) -> Pictures:
    """Open a set, and download it if it is not prepared.

    Args:
        spec: tfds:NAME, tfds:NAME:CONFIG, or "tfds:" before a name as TensorFlow Datasets writes
            it, also with a version.

    Returns:
        The splits. Their images are not read yet.

    Raises:
        InputError: the set is unknown, cannot be downloaded, or has no images with one class each.
    """
    import tensorflow_datasets as tfds

    builder = get_builder(spec)
    image, label = _columns(builder.info, spec)
    _prepare(builder, spec)
    kinds = _kinds(builder.info)
    skipped = {name: tfds.decode.SkipDecoding() for name in kinds if kinds[name] == "Image"}

    def rows(split: str) -> Iterator[Row]:
        try:
            for row in tfds.as_numpy(builder.as_dataset(split=split, decoders=skipped)):
                yield row[image], int(row[label])
        except Exception as error:  # a damaged file raises errors of many types
            raise _unreadable(spec, builder, error) from error

    config = builder.builder_config
    name = f"{builder.name}-{config.name}" if config else builder.name
    counts = {split: own.num_examples for split, own in builder.info.splits.items()}
    names = tuple(builder.info.features[label].names)
    return open_columns(spec, name, names, counts, rows)


def get_builder(spec: str) -> Any:
    """The builder of a set, by its name with or without "tfds:". Nothing is downloaded.

    Raises:
        InputError: TensorFlow Datasets does not know the set or the configuration.
    """
    import tensorflow_datasets as tfds

    given = spec.removeprefix(PREFIX)
    name = given if VERSION.fullmatch(given) else given.replace(":", "/", 1)
    try:
        return tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name.partition("/")[0], known, n=1, cutoff=0.5)
        hint = f"did you mean '{PREFIX}{near[0]}'?" if near else "its catalog has the names."
        raise InputError(f"TensorFlow Datasets has no set called {given!r}: {hint}") from error
    except Exception as error:  # the code of a set raises errors of many types
        base, _, config = name.partition("/")
        configs: dict[str, Any] = {}
        with contextlib.suppress(Exception):
            configs = tfds.builder_cls(base).builder_configs
        if configs and config not in configs:
            raise unknown(f"configuration of {PREFIX}{base}", config, configs) from error
        raise InputError(f"{spec} cannot be opened ({cause(error)}).") from error


def is_prepared(spec: str) -> bool:
    """Whether a set is known and needs no download."""
    try:
        return get_builder(spec).data_path.exists()
    except InputError:
        return False


def is_same(spec: str, other: str) -> bool:
    """Whether two names are of the same set and configuration, in any version."""
    try:
        one, two = get_builder(spec), get_builder(other)
    except InputError:
        return False
    configs = [getattr(builder.builder_config, "name", None) for builder in (one, two)]
    return one.name == two.name and configs[0] == configs[1]


def load_cifar(name: str) -> Dataset:
    """Read CIFAR-10 or CIFAR-100, and download it if it is not prepared.

    Args:
        name: "cifar10" or "cifar100".

    Raises:
        InputError: the set cannot be downloaded or is damaged.
    """
    builder = get_builder(name)
    _prepare(builder, name)
    try:
        train, test = (builder.as_dataset(split=s, batch_size=-1) for s in ("train", "test"))
    except Exception as error:
        raise _unreadable(name, builder, error) from error
    splits = [
        Split(part["image"].numpy(), part["label"].numpy().astype(np.int32))
        for part in (train, test)
    ]
    return Dataset(name, tuple(builder.info.features["label"].names), splits[0], splits[1])


def _columns(info: Any, spec: str) -> tuple[str, str]:
    """The names of the image and the label.

    The set itself names them, or else there must be one of each type.
    """
    kinds, own = _kinds(info), info.features
    keys = info.supervised_keys
    named = [kinds.get(key) if isinstance(key, str) else None for key in keys or ()]
    if named == ["Image", "ClassLabel"]:
        image, label = keys
    else:
        image = choose_column(spec, "Image", kinds, ["image"])
        label = choose_column(spec, "ClassLabel", kinds, ["label"])
    if (dtype := np.dtype(own[image].np_dtype)) not in (np.uint8, np.uint16):
        raise InputError(f"{spec} has images of type {dtype}; only uint8 and uint16 are read.")
    if not own[label].num_classes:
        raise InputError(f"{spec} has classes without names.")
    return image, label


def _kinds(info: Any) -> dict[str, str]:
    """The type of each feature."""
    own = info.features
    return {name: type(own[name]).__name__ for name in own} if hasattr(own, "keys") else {}


def _prepare(builder: Any, name: str) -> None:
    if builder.data_path.exists():
        return
    try:
        _reach([*filter(None, [builder.info.homepage]), STORE])
        builder.download_and_prepare()
    except Exception as error:
        raise InputError(
            f"{name} is not prepared in {_where()} and cannot be downloaded ({cause(error)}): "
            "go online, set TFDS_DATA_DIR to where it is, or use --data digits, "
            "--data FOLDER or --data FILE.npz."
        ) from error


def _reach(pages: list[str]) -> None:
    """Check that one of the pages answers. The downloader would retry for minutes."""
    for page in pages:
        try:
            urllib.request.urlopen(page, timeout=10).close()
        except urllib.error.HTTPError:
            return
        except (OSError, ValueError):
            if page == pages[-1]:
                raise
        else:
            return


def _unreadable(name: str, builder: Any, error: Exception) -> InputError:
    return InputError(
        f"{name} in {builder.data_path} cannot be read ({cause(error)}): remove it to prepare it "
        "anew."
    )


def _where() -> str:
    import tensorflow_datasets as tfds

    return str(tfds.core.constants.DATA_DIR)
