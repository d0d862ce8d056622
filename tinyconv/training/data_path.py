"""The data of a run: a name, or a path that is found again after a move of the run folder."""

import os
from pathlib import Path

from tinyconv.errors import InputError


def absolute(data: str) -> str:
    """`data` as an absolute path, or unchanged if it is the name of a data set."""
    return data if is_name(data) else str(Path(data).absolute())


def is_name(data: str) -> bool:
    """Whether `data` is the name of a data set rather than a path."""
    from tinyconv import data as datasets

    return datasets.is_name(data)


def locate(data: str, before: str | None, folder: Path) -> str:
    """Find the data that a report names.

    Args:
        data: the data as the report names them.
        before: the absolute path of the run folder when the report was written, if it is known.
        folder: the current path of the run folder.

    Returns:
        `data` if it is a name or exists. Otherwise the path that `data` would have if it was moved
        together with the run folder. If that path does not exist either, `data`.
    """
    if isinstance(before, str) and not is_here(data):
        try:
            moved = os.path.normpath(folder.absolute() / os.path.relpath(data, before))
        except ValueError:  # on Windows, for paths on different drives
            return data
        if is_here(moved):
            return moved
    return data


def is_here(data: str) -> bool:
    """Whether `data` is the name of a data set or a path that exists."""
    return is_name(data) or Path(data).exists()


def check(data: str, folder: Path) -> None:
    """Check that the data exist that the report in `folder` names.

    Raises:
        InputError: the data do not exist.
    """
    if not is_here(data):
        where = "" if Path(data).is_absolute() else f" in {Path.cwd()}"
        raise InputError(
            f"{folder / 'report.json'} names the data {data}, which do not exist{where}; move them "
            "back there."
        )
