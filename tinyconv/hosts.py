"""Several machines that train one net: their addresses, and the error if one of them dies.

This module imports neither Keras nor JAX. Both start threads, and a process with threads cannot be
forked safely.
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
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
PREFIX = "KERAS_DISTRIBUTION_"


@dataclass(frozen=True)
class Hosts:
    """The machines that train one net.

    Args:
        addresses: the HOST:PORT of every machine. The first machine coordinates the others.
        index: the index of this machine in `addresses`.

    Raises:
        InputError: an address is not HOST:PORT or occurs twice, or the index is out of range.
    """

    addresses: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise InputError(f"{address!r} among the hosts is not HOST:PORT.")
        if len(set(self.addresses)) < len(self.addresses):
            raise InputError("Two of the hosts have the same HOST:PORT; each has its own.")
        if not 0 <= self.index < len(self.addresses):
            raise InputError(
                f"The host index is {self.index}; of {len(self.addresses)} hosts it must be 0 to "
                f"{len(self.addresses) - 1}."
            )


def get(addresses: str | None, index: int | None) -> Hosts | None:
    """The hosts that the flags give, or else Keras' environment variables.

    Args:
        addresses: the value of --hosts, if it is given.
        index: the value of --host-index, if it is given.

    Returns:
        The hosts, or None for a training on this machine only.

    Raises:
        InputError: a flag or a variable is missing or wrong.
    """
    if index is not None and addresses is None:
        raise InputError("--host-index needs --hosts HOST:PORT,HOST:PORT.")
    given = addresses if addresses is not None else os.environ.get(f"{PREFIX}JOB_ADDRESSES")
    if given is None:
        return None
    if addresses is not None and index is None:
        raise InputError(
            "--hosts needs --host-index: 0 on the first host, 1 on the second, and so on."
        )
    if index is None:
        name = f"{PREFIX}PROCESS_ID"
        text = os.environ.get(name, "")
        if not text.isdecimal():
            raise InputError(f"{name} is {text!r}; it must be the index of this host, from 0 up.")
        index = int(text)
    return Hosts(tuple(given.split(",")), index)


def supervise(main: Callable[[], None], run: Callable[[Callable[[], None]], None]) -> None:
    """Call `run(main)` in a child process, and exit with the status of the child.

    When another host is lost, JAX aborts the process and prints long stack traces. The parent
    process replaces them by one sentence. On Windows, which has no `os.fork`, `main` runs in this
    process, and JAX prints its stack traces.

    Args:
        main: the work of this host.
        run: a function that calls its argument, and that prints an `InputError` and exits with 2.

    Raises:
        InputError: another host is lost.
    """
    if not hasattr(os, "fork"):
        main()
        return
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if not child:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the child dies with it
            os.dup2(errors.fileno(), 2)
            _run_child(main, run)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except KeyboardInterrupt:  # the child got the signal too
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        said = errors.read()
    if status < 0 and "distributed service" in said:
        raise InputError(LOST)
    sys.stderr.write(said)
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _run_child(main: Callable[[], None], run: Callable[[Callable[[], None]], None]) -> None:
    """Call `run(main)` and exit. After a failure, exit without JAX's wait for the other hosts."""
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
