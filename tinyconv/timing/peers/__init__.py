"""The peers that a net is compared with. Each module of this package is a peer.

The name of a peer is that of its module, with hyphens for underscores. The module has a class
`Peer`, a subclass of `Stopwatch`. `tinyconv time --compare` finds the module without registration.
The functions of `Peer` import the timed library. `Peer.check` raises `InputError` if the library is
not installed. A peer that only runs an exported file is a subclass of `Exported`.
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
    """Get the class of the stopwatch of a peer by the peer's name.

    Raises:
        InputError: no peer has that name.
    """
    if name not in names():
        raise unknown("peer", name, names())
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").Peer
