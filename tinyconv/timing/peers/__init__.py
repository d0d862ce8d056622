"""What a net is compared with: each file here is a peer.

A peer is named like its file, with hyphens for underscores, and has a class `Peer`, a `Stopwatch`.
The file alone makes it known to `timing.py --compare`. It imports the library it times inside the
functions of `Peer`, and `Peer.check` raises `InputError` if the library is missing.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from tinyconv.errors import unknown

if TYPE_CHECKING:
    from tinyconv.timing.stopwatch import Stopwatch


def names() -> tuple[str, ...]:
    """The names of all peers."""
    found = (module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(found))


def get(name: str) -> "type[Stopwatch]":
    """The stopwatch of the peer called `name`.

    Raises:
        InputError: no peer has that name.
    """
    if name not in names():
        raise unknown("peer", name, names())
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").Peer
