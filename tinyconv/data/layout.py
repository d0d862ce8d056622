"""Whether the subfolders of a folder are splits or classes, judged by their names."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from tinyconv.data.files import stray, subfolders, walk
from tinyconv.errors import InputError

SPLITS = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation", "valset"),
    "test": ("test", "testing", "tst", "testset"),
}
WORDS = {word: part for part, words in SPLITS.items() for word in words}
LETTERS = r"[^\W\d_]+|[\W\d_]+"  # seg_train, train2017
CAMEL = r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+"  # TrainImages


def find_splits(folder: Path) -> dict[str, Path]:
    """Find the folders of the splits.

    Returns:
        A dict from "train", "val" and "test" to the folders that exist. The dict is empty if the
        subfolders are classes.

    Raises:
        InputError: the subfolders could be splits or classes, or two could be the same split.
    """
    found = subfolders(folder)
    groups: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    others = []
    for subfolder in found:
        if role := _role(subfolder.name):
            groups[role[1]].append((role[0], subfolder))
        else:
            others.append(subfolder)
    telling = [group for rest, group in groups.items() if rest == "*" or _is_complete(group)]
    if not telling:
        if others or not _is_complete([pair for group in groups.values() for pair in group]):
            return {}
        raise InputError(
            f"{folder} has {_named(found)}, which may be splits or classes; name splits train/, "
            "val/ and test/."
        )
    group = telling[0]
    beside = [subfolder for subfolder in found if subfolder not in [path for _, path in group]]
    if beside:
        part, path = group[0]
        if part != "test" and len(beside) == len(found) - 1 == len(others) and not subfolders(path):
            return {}  # a split has class folders, so that this folder is a class
        raise InputError(
            f"{folder} has {_named([path for _, path in group])}, named like a split, beside "
            f"{_named(beside)}; move the classes into train/ and test/, or rename or move what "
            "does not belong."
        )
    for part in SPLITS:
        if len(same := [path for role, path in group if role == part]) > 1:
            raise InputError(f"{folder} has {_named(same)}; only one of them can be the {part}.")
    paths = dict(group)
    return {part: _inside(paths[part], part) for part in SPLITS if part in paths}


def list_classes(folder: Path) -> tuple[dict[str, list[Path]], Counter[str]]:
    """Find the images of each class.

    Returns:
        A dict from the name of each class to its images, both in alphabetical order, and the number
        of other files by their endings.

    Raises:
        InputError: the folder or a class has no images, a file is in two classes, or two levels of
            folders could be the classes.
    """
    classes: dict[str, list[Path]] = {}
    skipped = stray(folder)
    owners: dict[str, Path] = {}
    empty = []
    found = subfolders(folder)
    _check_levels(folder, found)
    for subfolder in found:
        inner = [(role[0], path) for path in subfolders(subfolder) if (role := _role(path.name))]
        if len(found) > 1 and _is_complete(inner):
            raise InputError(
                f"{subfolder} has {_named([path for _, path in inner])}; splits go above classes: "
                f"{folder / 'train' / subfolder.name}."
            )
        images, others = walk(subfolder)
        skipped += others
        classes[subfolder.name] = sorted(images.values())
        if not images:
            empty.append((subfolder, others))
        for real, path in images.items():
            if real in owners:
                raise InputError(f"{owners[real]} and {path} are one file in two classes.")
        owners |= images
    if not any(classes.values()):
        tables = sorted(folder.glob("*.csv"))
        other = f", or --data {tables[0]}" if len(tables) == 1 else ""
        raise InputError(
            f"{folder} has no images{_only(skipped)}; it needs one subfolder of images per class"
            f"{other}."
        )
    if empty:
        raise InputError(f"{empty[0][0]} has no images{_only(empty[0][1])}; remove it or fill it.")
    return classes, skipped


def _check_levels(folder: Path, found: list[Path]) -> None:
    """Refuse a folder in which two levels of folders could be the classes.

    Its subfolders have the same subfolders and no files. They could be folds or people.
    """
    below = [[path.name for path in subfolders(subfolder)] for subfolder in found]
    same = len(found) > 1 and len(below[0]) > 1 and below.count(below[0]) == len(below)
    if same and not any(stray(subfolder) for subfolder in found):
        raise InputError(
            f"{folder} has {_named(found)}, each with {_named(subfolders(found[0]))}, and either "
            "may be the classes; put all images of a class into one folder."
        )


def meant(folder: Path) -> str:
    """The end of an error on a folder with one class: a question that names a folder below it.

    The result is "" if no folder below has several subfolders.
    """
    while len(found := subfolders(folder)) == 1:
        folder = found[0]
    return f"; did you mean {folder}?" if found else ""


def _role(name: str) -> tuple[str, str] | None:
    """The split that a folder is named after, and its name with "*" for the word of the split.

    The result is None if the name has no such word or more than one.
    """
    for pattern in (LETTERS, CAMEL):
        words = [word.lower() for word in re.findall(pattern, name)]
        if len(at := [i for i, word in enumerate(words) if word in WORDS]) == 1:
            part = WORDS[words[at[0]]]
            words[at[0]] = "*"
            return part, "".join(words)
    return None


def _is_complete(group: list[tuple[str, Path]]) -> bool:
    parts = {part for part, _ in group}
    return "train" in parts and len(parts) > 1


def _inside(folder: Path, part: str) -> Path:
    """The folder itself, or its only subfolder if that is named like the same split."""
    found = subfolders(folder)
    if len(found) == 1 and (role := _role(found[0].name)) and role[0] == part:
        return found[0]
    return folder


def _named(folders: list[Path]) -> str:
    names = [f"{folder.name}/" for folder in folders[:5]]
    if len(folders) > 5:
        names.append(f"{len(folders) - 5} more")
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _only(skipped: Counter[str]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(3))
    return f", but {kinds}" if kinds else ""
