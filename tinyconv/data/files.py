"""Which files in a folder are images, found without a look into them."""

import contextlib
import functools
import os
import sys
from collections import Counter, deque
from pathlib import Path

from PIL import Image

from tinyconv.errors import InputError

with contextlib.suppress(ImportError):
    import pillow_heif  # an optional plugin: photos of phones, .heic

    pillow_heif.register_heif_opener()

# Formats that Pillow knows by name, but that are drawings, films or tables of numbers.
NOT_PIXELS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
# What operating systems, network drives and editors leave behind; names in lower case.
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
    formats = Image.registered_extensions()  # also loads every plugin of Pillow, and fills OPEN
    known = (Image.OPEN.keys() | {"MPO"}) - NOT_PIXELS  # JPEG's plugin opens MPO, too
    return frozenset(suffix for suffix, kind in formats.items() if kind in known)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and below, in alphabetical order; prints what it skips."""
    images, skipped = walk(folder)
    print_skipped(folder, skipped)
    return sorted(images.values())


def walk(folder: Path) -> tuple[dict[str, Path], Counter[str]]:
    """Find the images in a folder and below.

    Links to folders are followed, except to a folder that contains this one. A file that several
    paths lead to is found once.

    Args:
        folder: where to start.

    Returns:
        Each image's path, by the real path of its file, and how many files have another ending.

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
                    waiting.append((entry.path, target))  # later: a real path comes before links
            elif not link and not entry.is_file():
                continue  # a pipe or a device
            elif (suffix := ending(entry.name)).lower() not in suffixes:
                skipped[suffix] += 1
            elif target not in images or not link:
                images[target] = Path(entry.path)
    return images, skipped


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name, without hidden entries and those that systems leave behind."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from error
    return [e for e in found if not e.name.startswith(".") and e.name.lower() not in JUNK]


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, and links to folders, in alphabetical order."""
    return sorted(Path(entry.path) for entry in visible(folder) if _is_dir(entry))


def stray(folder: Path) -> Counter[str]:
    """How many files of each ending lie in a folder itself, beside its subfolders."""
    names = [entry.name for entry in visible(folder) if not _is_dir(entry)]
    return Counter(f"{ending(name)} outside the class folders" for name in names)


def ending(name: str) -> str:
    stem, dot, end = name.rpartition(".")
    return dot + end if stem else "without an ending"


def print_skipped(folder: Path, skipped: Counter[str]) -> None:
    """Print in one line how many files were skipped, by their endings."""
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
    except OSError:  # a link that leads to itself, or to where nobody may look
        return False
