"""Several machines that train one net: who takes part, and what becomes of the others if one dies.

Imports neither Keras nor JAX: a process can only be forked safely before they start threads.
"""

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from tinyconv.errors import InputError

LOST = (
    "Another host died, did not come or stopped answering; start all of them again, with --resume "
    "RUN if an epoch was complete."
)
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
PREFIX = "KERAS_DISTRIBUTION_"


@dataclass(frozen=True)
class Hosts:
    """The `host:port` of every machine, the first of which coordinates, and which one this is."""

    addresses: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise InputError(f"{address!r} among the hosts is no HOST:PORT.")
        if len(set(self.addresses)) < len(self.addresses):
            raise InputError("Two of the hosts have the same HOST:PORT; each has its own.")
        if not 0 <= self.index < len(self.addresses):
            raise InputError(
                f"The host index is {self.index}; of {len(self.addresses)} hosts it must be 0 to "
                f"{len(self.addresses) - 1}."
            )


def get(addresses: str | None, index: int | None) -> Hosts | None:
    """The hosts as given by the flags, or else by Keras' environment variables; None: this alone.

    Raises:
        InputError: they are incomplete or make no sense.
    """
    if index is not None and addresses is None:
        raise InputError("--host-index needs --hosts HOST:PORT,HOST:PORT.")
    given = addresses if addresses is not None else os.environ.get(f"{PREFIX}JOB_ADDRESSES")
    if given is None:
        return None
    if addresses is not None and index is None:
        raise InputError("--hosts needs --host-index, from 0 up, another on every host.")
    if index is None:
        name = f"{PREFIX}PROCESS_ID"
        text = os.environ.get(name, "")
        if not text.isdecimal():
            raise InputError(f"{name} is {text!r}; it must be the index of this host, from 0 up.")
        index = int(text)
    return Hosts(tuple(given.split(",")), index)


def supervise(main: Callable[[], None], run: Callable[[Callable[[], None]], None]) -> None:
    """Call `run(main)` in a child process, and end as the child ends.

    JAX aborts its process, with pages of stack, when another host is gone; the parent process says
    so in one sentence. Without `os.fork`, as on Windows, `main` runs in this process, and the pages
    are shown.

    Args:
        main: what the host does.
        run: calls its argument, and turns bad input into a sentence and an exit status.

    Raises:
        InputError: another host is gone.
    """
    if not hasattr(os, "fork"):
        main()
        return
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if not child:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever kills one, both
            os.dup2(errors.fileno(), 2)
            _run_child(main, run)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except KeyboardInterrupt:  # the child got it, too
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        said = errors.read()
    if status < 0 and "distributed service" in said:
        raise InputError(LOST)
    sys.stderr.write(said)
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _run_child(main: Callable[[], None], run: Callable[[Callable[[], None]], None]) -> None:
    """Call `run(main)` and exit; after a failure, without JAX's wait for the other hosts."""
    try:
        run(main)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        os._exit(1)
    sys.exit()
