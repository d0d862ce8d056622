"""Sources of image files in splits and classes: folders, tables and the sets of two libraries.

Each source has a module that makes `Pictures`. This module reads them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyconv.data.images import Crop
from tinyconv.data.splits import Dataset, OnDisk, Split, check_classes, split_by_content
from tinyconv.data.store import File, read_images
from tinyconv.errors import InputError


@dataclass(frozen=True)
class Listed:
    """The images of a split, before they are read.

    Args:
        names: the names of the classes, in order.
        count: the number of images.
        files: each image, with the name of its class.
    """

    names: tuple[str, ...]
    count: int
    files: Iterable[tuple[File, str]]


@dataclass(frozen=True)
class Pictures:
    """The splits of a source.

    Args:
        source: what messages call the source.
        name: the name of the data set.
        splits: a dict from "train", "val" and "test" to the folder of the split, or to its name in
            the source. The dict is empty if the source has no splits.
        list_parts: a function of some splits, which lists their images. Without splits, all images
            are "train".
        hint: the end of an error on a source with one class.
        needs: the end of an error on a source that lacks a split.
        whole: what evaluates a source that has a training split alone.
    """

    source: str | Path
    name: str
    splits: Mapping[str, str | Path]
    list_parts: Callable[[Sequence[str]], dict[str, Listed]]
    hint: str = ""
    needs: str = "it needs train and test (or val)."
    whole: str = ""

    def where(self, part: str) -> str | Path:
        """What messages call the split `part`."""
        own = self.splits.get(part, self.source)
        return own if isinstance(own, Path) or not self.splits else f"{self.source}, split {own},"

    def alone(self) -> str:
        """The splits, for an error on a source that lacks others."""
        mark = "/" if isinstance(next(iter(self.splits.values())), Path) else ""
        return f"{self.source} has {' and '.join(f'{part}{mark}' for part in self.splits)} alone"


def load(pictures: Pictures, size: tuple[int, int], holdout: int, crop: Crop | None) -> Dataset:
    """Read all splits.

    Args:
        pictures: the source.
        size: (height, width) in pixels that every image is resized to.
        holdout: the number of training images that the caller will set aside.
        crop: as for `read_image`.

    Returns:
        The data set. In a source without splits, a fifth of each class is the test split.

    Raises:
        InputError: a split is missing or has an unknown class, there is one class, or an image is
            damaged.
    """
    splits = pictures.splits
    if splits and ("train" not in splits or len(splits) == 1):
        raise InputError(f"{pictures.alone()}; {pictures.needs}")
    if holdout and len(splits) == 3:
        raise InputError(
            f"{pictures.where('val')} is already the part to validate on; leave out --holdout "
            f"{holdout}."
        )
    listed = pictures.list_parts(tuple(splits) or ("train",))
    names = listed["train"].names
    for part, one in listed.items():
        where = pictures.where(part)
        if unseen := sorted(set(one.names) - set(names)):
            raise InputError(
                f"{where} has class {unseen[0]!r}, which {pictures.where('train')} does not have."
            )
        if missing := [name for name in names if name not in one.names]:
            print(f"{where} has no class {', '.join(map(repr, missing))}.", file=sys.stderr)
    check_classes(pictures.where("train"), names, pictures.hint)
    read = _read(pictures, listed, names, size, crop)
    if not splits:
        everything = read["train"]
        kept, held = split_by_content(everything.images, everything.labels)
        return Dataset(pictures.name, names, everything.take(kept), everything.take(held))
    trained = set(read["train"].labels.tolist())
    for part, split in read.items():
        if strange := sorted(set(split.labels.tolist()) - trained):
            raise InputError(
                f"{pictures.where(part)} has class {names[strange[0]]!r}, of which the split train "
                "has no image."
            )
    if "test" not in read:
        return Dataset(pictures.name, names, read["train"], read["val"], test_name="val")
    return Dataset(pictures.name, names, read["train"], read["test"], read.get("val"))


def load_test(
    pictures: Pictures, size: tuple[int, int], crop: Crop | None = None
) -> tuple[Split, tuple[str, ...], str]:
    """Read the images to evaluate a model on.

    In a source with splits, the images are those of the test split, or of the val split if there is
    no test split. In a source without splits, they are all images.

    Args:
        pictures: the source.
        size: (height, width) in pixels that every image is resized to.
        crop: as for `read_image`.

    Returns:
        The images and labels, the names of the classes, and a description of the images.

    Raises:
        InputError: as for `load`, or the source has only a training split.
    """
    splits = pictures.splits
    part = next((part for part in ("test", "val") if part in splits), "train")
    if splits and part == "train":
        raise InputError(
            f"{pictures.alone()}; {pictures.whole} to evaluate its images all the same."
        )
    listed = pictures.list_parts((part,))
    names = listed[part].names
    split = _read(pictures, listed, names, size, crop)[part]
    own = splits.get(part)
    if isinstance(own, Path):
        return split, names, f"all of {own.relative_to(pictures.source)}/"
    return split, names, f"all of split {own}" if own else "all of them"


def _read(
    pictures: Pictures,
    listed: dict[str, Listed],
    names: tuple[str, ...],
    size: tuple[int, int],
    crop: Crop | None,
) -> dict[str, Split]:
    index = {name: i for i, name in enumerate(names)}
    labels: dict[str, list[int]] = {part: [] for part in listed}

    def files() -> Iterator[File]:
        for part, one in listed.items():
            for file, name in one.files:
                labels[part].append(index[name])
                yield file

    count = sum(one.count for one in listed.values())
    images = read_images(pictures.source, files(), count, size, crop)
    splits, start = {}, 0
    for part, own in labels.items():
        rows = slice(start, start := start + len(own))
        taken = images.take(rows) if isinstance(images, OnDisk) else images[rows]
        splits[part] = Split(taken, np.array(own, np.int32))
    return splits
