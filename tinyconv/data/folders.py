"""Images in folders: one subfolder per class, in one folder or in a folder per split."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tinyconv.data.files import print_skipped, stray
from tinyconv.data.images import text
from tinyconv.data.layout import find_splits, list_classes, meant
from tinyconv.data.pictures import Listed, Pictures
from tinyconv.errors import InputError


def open_folder(folder: Path) -> Pictures:
    """Find the splits of a folder.

    Args:
        folder: a folder with one subfolder per class, or with such folders named train, val, test.

    Returns:
        The splits. Their images are not listed yet.

    Raises:
        InputError: the folders have no clear meaning.
    """
    splits = find_splits(folder)

    def list_parts(parts: Sequence[str]) -> dict[str, Listed]:
        paths = {part: splits.get(part, folder) for part in parts}
        skipped = Counter() if folder in paths.values() else stray(folder)
        listed = {}
        for part, path in paths.items():
            classes, others = list_classes(path)
            skipped += others
            names = _show(folder, tuple(classes))
            files = [
                (file, name)
                for name, own in zip(names, classes.values(), strict=True)
                for file in own
            ]
            listed[part] = Listed(names, len(files), files)
        print_skipped(folder, skipped)
        return listed

    return Pictures(
        folder,
        text(folder.resolve().name),
        splits,
        list_parts,
        hint="" if splits else meant(folder),
        needs="it needs train/ and test/ (or val/), or classes and no splits.",
        whole=f"give {splits.get('train')}",
    )


def _show(folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes as valid UTF-8."""
    shown = tuple(map(text, names))
    if twice := [name for name, count in Counter(shown).items() if count > 1]:
        raise InputError(f"{folder} has two classes that both read {twice[0]!r}; rename one.")
    return shown
