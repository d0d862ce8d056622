"""A CSV file that names images and their classes."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyconv.data.images import text
from tinyconv.data.layout import SPLITS, WORDS
from tinyconv.data.pictures import Listed, Pictures
from tinyconv.errors import InputError

NEEDED = ("image", "label")
LENGTHS = {"image": 500, "label": 200, "split": 200}  # most characters of a cell


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        line: the number of its line in the file.
        cell: the image as the table names it.
        image: the file of the image.
        label: the name of the class.
        split: "train", "val" or "test", or None if the table has no such column.
    """

    line: int
    cell: str
    image: Path
    label: str
    split: str | None


def is_table(path: Path) -> bool:
    """Whether a path is that of a table."""
    return path.suffix.lower() == ".csv" and path.is_file()


def open_table(path: Path) -> Pictures:
    """Read a table. The images are not read yet.

    Args:
        path: a CSV file with the columns image and label, and optionally split. The images are
            relative to the folder of the file.

    Returns:
        The splits. The classes of each are in alphabetical order.

    Raises:
        InputError: the file is not such a table, an image does not exist, a label or a split is
            missing, or an image has two labels or two splits.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path} has a header, but no rows; it needs a row for each image.")
    if gone := [row for row in rows if not _is_file(row.image)]:
        raise InputError(
            f"{len(gone)} of {len(rows)} images in {path} do not exist, the first in line "
            f"{gone[0].line}: {gone[0].image}; paths are relative to the folder of the table."
        )
    found: dict[str, dict[str, Row]] = {}
    owners: dict[str, Row] = {}
    for row in rows:
        real = os.path.realpath(row.image)
        before = owners.setdefault(real, row)
        if before.label != row.label:
            raise InputError(
                f"{path} gives {row.image} the label {before.label!r} in line {before.line}, but "
                f"{row.label!r} in line {row.line}; an image has one class."
            )
        if before.split != row.split:
            raise InputError(
                f"{path} gives {row.image} the split {before.split} in line {before.line}, but "
                f"{row.split} in line {row.line}; an image has one split."
            )
        found.setdefault(row.split or "train", {}).setdefault(real, row)
    has_splits = rows[0].split is not None

    def list_parts(parts: Sequence[str]) -> dict[str, Listed]:
        listed = {}
        for part in parts:
            own = sorted(found[part].values(), key=lambda row: (row.label, row.cell))
            names = tuple(sorted({row.label for row in own}))
            listed[part] = Listed(names, len(own), [(row.image, row.label) for row in own])
        return listed

    return Pictures(
        path,
        text(path.stem),
        {part: part for part in SPLITS if part in found} if has_splits else {},
        list_parts,
        needs="its column split needs train and test (or val).",
        whole="remove its column split",
    )


def _rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            header = next(reader, [])
            columns = _columns(header, path)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                where = f"{path}, line {reader.line_num},"
                if len(cells) != len(header):
                    raise InputError(
                        f"{where} has {len(cells)} cells, but the header has {len(header)}; put "
                        "quotation marks around a cell with a comma."
                    )
                own = {name: cells[at].strip() for name, at in columns.items()}
                if empty := [name for name in NEEDED if not own[name]]:
                    raise InputError(f"{where} has no {empty[0]}; fill it in or remove the line.")
                for name, cell in own.items():
                    if len(cell) > LENGTHS[name] or any(sign < " " for sign in cell):
                        raise InputError(
                            f"{where} has in {name} no text of one line and at most "
                            f"{LENGTHS[name]} characters."
                        )
                split = own.get("split")
                if split is not None and split.lower() not in WORDS:
                    raise InputError(
                        f"{where} has the split {split!r}; it must be train, val or test."
                    )
                image, role = path.parent / own["image"], split and WORDS[split.lower()]
                yield Row(reader.line_num, own["image"], image, own["label"], role)
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}).") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    """The index of each column that is read."""
    names = [name.strip().lower() for name in header]
    if any(names.count(name) != 1 for name in NEEDED) or names.count("split") > 1:
        first = ", ".join(header)[:100] or "nothing"
        raise InputError(
            f"The first line of {path} has {first!r}; it must name the columns image and label, "
            "and optionally split, separated by commas."
        )
    return {name: names.index(name) for name in (*NEEDED, "split") if name in names}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False
