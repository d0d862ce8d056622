"""Where the data of a run are: a known name, or a path that outlives a move of the run folder."""

import os
from pathlib import Path

from tinyconv.errors import InputError


def absolute(data: str) -> str:
    """`data` as an absolute path, unless it is a known name."""
    return data if is_name(data) else str(Path(data).absolute())


def is_name(data: str) -> bool:
    """Whether `data` is a source that tinyconv knows by name, and no path."""
    from tinyconv.data import SIZES

    return data in SIZES


def locate(data: str, before: str | None, folder: Path) -> str:
    """Where the data are now that a report names.

    Args:
        data: the data as the report names them.
        before: the absolute path that the run folder had when the report was written, if known.
        folder: the run folder now.

    Returns:
        `data` if it is a name or exists. Otherwise, where the run folder was moved together with
        its data, their new path; and `data` again where nothing exists.
    """
    if isinstance(before, str) and not is_here(data):
        try:
            moved = os.path.normpath(folder.absolute() / os.path.relpath(data, before))
        except ValueError:  # on Windows, another drive
            return data
        if is_here(moved):
            return moved
    return data


def is_here(data: str) -> bool:
    """Whether `data` is a known name or a path that exists."""
    return is_name(data) or Path(data).exists()


def check(data: str, folder: Path) -> None:
    """Raise `InputError` if the data that the report of a run names do not exist."""
    if not is_here(data):
        where = "" if Path(data).is_absolute() else f" in {Path.cwd()}"
        raise InputError(
            f"{folder / 'report.json'} names the data {data}, which do not exist{where}; move them "
            "back there."
        )
