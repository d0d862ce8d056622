"""Atomic writing: a file is complete or does not exist."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyconv.errors import InputError

PARTIAL = ".partial-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename the written file to `path` at the end.

    The temporary name keeps the suffixes, because Keras and Matplotlib read the format off them.

    Raises:
        InputError: the file cannot be written, for example on a full disk.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        raise InputError(
            f"Cannot write {path} ({reason}); an existing file is unchanged."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8.

    Raises:
        InputError: the file cannot be written. An existing file is then unchanged.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_new(path: Path) -> None:
    """Check that `path` is neither a file nor a folder.

    Raises:
        InputError: it is, and must not be replaced.
    """
    if path.exists():
        raise InputError(f"{path} is there already; remove it or choose another.")


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for partial in folder.glob(f"{PARTIAL}*"):
        partial.unlink()


def check_writable(folder: Path) -> None:
    """Make `folder` if it does not exist, and check that files can be written to it.

    Raises:
        InputError: the folder cannot be made, or no file can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"Cannot write to {folder} ({error.strerror}); choose another.") from error
