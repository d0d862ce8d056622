"""The image files in a folder, found by their names alone."""

import contextlib
import functools
import os
import sys
from collections import Counter, deque
from pathlib import Path

from PIL import Image

from tinyconv.errors import InputError

with contextlib.suppress(ImportError):
    import pillow_heif  # an optional plugin for .heic, the format of many phones

    pillow_heif.register_heif_opener()

# Formats in Pillow's list that hold drawings, films or tables of numbers.
NOT_PIXELS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
# Files and folders that operating systems, network drives and editors make; in lower case.
JUNK = {
    "#recycle",
    "$recycle.bin",
    "@eadir",
    "@recycle",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "recycler",
    "system volume information",
    "thumbs.db",
}


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The endings of the image formats that the installed Pillow can open, in lower case."""
    formats = Image.registered_extensions()  # this call loads every plugin and fills `Image.OPEN`
    known = (Image.OPEN.keys() | {"MPO"}) - NOT_PIXELS  # the plugin of JPEG opens MPO too
    return frozenset(suffix for suffix, kind in formats.items() if kind in known)


def image_files(folder: Path) -> list[Path]:
    """Find the image files in a folder and its subfolders.

    The number of skipped files is printed.

    Returns:
        The paths, in alphabetical order.

    Raises:
        InputError: a folder cannot be read.
    """
    images, skipped = walk(folder)
    print_skipped(folder, skipped)
    return sorted(images.values())


def walk(folder: Path) -> tuple[dict[str, Path], Counter[str]]:
    """Find the images in a folder and its subfolders.

    Links to folders are followed, except a link to a folder that contains `folder`. A file with
    several paths is found once.

    Args:
        folder: the folder to search.

    Returns:
        A dict from the real path of each image file to its path in `folder`, and the number of
        other files by their endings.

    Raises:
        InputError: a folder cannot be read.
    """
    root = os.path.realpath(folder)
    above = set(map(str, Path(root).parents))
    suffixes = image_suffixes()
    images: dict[str, Path] = {}
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    waiting = deque([(str(folder), root)])
    while waiting:
        place, real = waiting.popleft()
        if real in seen:
            continue
        seen.add(real)
        within = str(Path(real, "_"))[:-1]
        for entry in visible(Path(place)):
            link = entry.is_symlink()
            target = os.path.realpath(entry.path) if link else within + entry.name
            if _is_dir(entry):
                if not link:
                    waiting.appendleft((entry.path, target))
                elif target not in above:
                    waiting.append(
                        (entry.path, target)
                    )  # last, because real paths come before links
            elif not link and not entry.is_file():
                continue  # a pipe or a device
            elif (suffix := ending(entry.name)).lower() not in suffixes:
                skipped[suffix] += 1
            elif target not in images or not link:
                images[target] = Path(entry.path)
    return images, skipped


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder in alphabetical order, without hidden ones and those in `JUNK`.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from error
    return [e for e in found if not e.name.startswith(".") and e.name.lower() not in JUNK]


def subfolders(folder: Path) -> list[Path]:
    """The visible subfolders of a folder and links to folders, in alphabetical order."""
    return sorted(Path(entry.path) for entry in visible(folder) if _is_dir(entry))


def stray(folder: Path) -> Counter[str]:
    """The number of files directly in a folder, by their endings."""
    names = [entry.name for entry in visible(folder) if not _is_dir(entry)]
    return Counter(f"{ending(name)} outside the class folders" for name in names)


def ending(name: str) -> str:
    """The ending of a file name with its dot, or "without an ending"."""
    stem, dot, end = name.rpartition(".")
    return dot + end if stem else "without an ending"


def print_skipped(folder: Path, skipped: Counter[str]) -> None:
    """Print in one line the number of skipped files, by their endings."""
    if not skipped:
        return
    count = skipped.total()
    kinds = [f"{number} {kind}" for kind, number in skipped.most_common(5)]
    if len(skipped) > len(kinds):
        kinds.append(f"{len(skipped) - len(kinds)} more endings")
    line = f"{folder}: {count} {'file' if count == 1 else 'files'} skipped: {', '.join(kinds)}"
    if any(kind.lower().startswith((".heic", ".heif")) for kind in skipped):
        line += " (install pillow-heif to read HEIC)"
    print(line, file=sys.stderr)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder without permission
        return False
