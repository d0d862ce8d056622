"""Sets with a column of images and a column of classes, of TensorFlow Datasets or the Hub."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tinyconv.data.images import Encoded
from tinyconv.data.layout import WORDS
from tinyconv.data.pictures import Listed, Pictures
from tinyconv.data.store import File
from tinyconv.errors import InputError

Row = tuple[bytes | Path, int]  # an image file and the number of its class


def open_columns(
    spec: str,
    name: str,
    class_names: tuple[str, ...],
    counts: Mapping[str, int],
    rows: Callable[[str], Iterator[Row]],
) -> Pictures:
    """Find the splits of a set.

    A split whose first image has no class is left out.

    Args:
        spec: the set, as the user gave it.
        name: the name of the data set, for the run folder.
        class_names: the names of the classes.
        counts: a dict from the names of the splits to their numbers of images.
        rows: a function that reads a split.

    Returns:
        The splits. Their images are not read yet.

    Raises:
        InputError: two splits can be the same, no split is known, or images have no classes.
    """
    roles = find_roles(spec, [split for split, count in counts.items() if count])
    for role, split in list(roles.items()):
        if next(rows(split))[1] < 0:
            if role == "train":
                raise InputError(f"{spec} has no labels in split {split}; training needs them.")
            print(f"{spec}: not used: split {split}, which has no labels", file=sys.stderr)
            del roles[role]
    if not roles:
        raise InputError(f"{spec} has no split with labels.")

    def files(split: str) -> Iterator[tuple[File, str]]:
        for i, (content, label) in enumerate(rows(split)):
            what = f"Image {i} of split {split} of {spec}"
            if not 0 <= label < len(class_names):
                raise InputError(f"{what} has no label, or one without a name.")
            file = content if isinstance(content, Path) else Encoded(content, what)
            yield file, class_names[label]

    def list_parts(parts: Sequence[str]) -> dict[str, Listed]:
        return {
            part: Listed(class_names, counts[roles[part]], files(roles[part])) for part in parts
        }

    whole = set(roles) == {"train"}
    return Pictures(spec, name, {} if whole else roles, list_parts)


def find_roles(source: str, names: Iterable[str]) -> dict[str, str]:
    """Find the splits of a set whose splits have any names.

    The splits that are left out are printed.

    Args:
        source: the set, for messages.
        names: the names of its splits.

    Returns:
        A dict from "train", "val" and "test" to the names. A single split is "train", unless its
        name is that of another split.

    Raises:
        InputError: two splits can be the same, or no split is known.
    """
    names = list(names)
    roles: dict[str, str] = {}
    for name in names:
        if not (role := WORDS.get(name.lower()) or ("train" if len(names) == 1 else None)):
            continue
        if role in roles:
            raise InputError(
                f"{source} has the splits {roles[role]} and {name}; only one of them can be the "
                f"{role}."
            )
        roles[role] = name
    if not roles:
        own = ", ".join(names) or "nothing"
        raise InputError(f"{source} has {own} for splits; it needs train and test.")
    if others := [name for name in names if name not in roles.values()]:
        print(f"{source}: not used: split {', '.join(others)}", file=sys.stderr)
    return {part: roles[part] for part in ("train", "val", "test") if part in roles}


def choose_column(source: str, kind: str, columns: Mapping[str, str], usual: Sequence[str]) -> str:
    """Choose the column of a set that has the images, or the classes.

    Args:
        source: the set, for messages.
        kind: "Image" or "ClassLabel".
        columns: a dict from all columns to their kinds.
        usual: the names that such a column has in most sets.

    Returns:
        The only column of that kind, or the only one of them with a usual name. A line is then
        printed.

    Raises:
        InputError: there is no such column, or it is unclear which is meant.
    """
    found = [name for name, own in columns.items() if own == kind]
    if not found:
        others = ", ".join(f"{name}: {own}" for name, own in list(columns.items())[:10])
        raise InputError(
            f"{source} has no column of type {kind} ({others}); it needs an Image and a ClassLabel "
            "for each example."
        )
    likely = found if len(found) == 1 else [name for name in found if name in usual]
    if len(likely) != 1:
        raise InputError(
            f"{source} has the columns {', '.join(found)} of type {kind}; it needs one, "
            "as it is unclear which is meant."
        )
    if len(found) > 1:
        others = ", ".join(name for name in found if name != likely[0])
        print(f"{source}: {likely[0]} is used, not {others}", file=sys.stderr)
    return likely[0]
