"""Stopwatches in separate processes, which take turns."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from tinyconv import terminal
from tinyconv.errors import InputError
from tinyconv.timing.figures import Timing
from tinyconv.timing.peers import get


def measure(
    names: Sequence[str],
    batch_sizes: Sequence[int] = (32, 128),
    runs: int = 5,
    seconds: float = 1.0,
    on_step: Callable[[int], None] = lambda done: None,
    peers: Sequence[str] = (),
) -> list[Timing]:
    """Time training and inference of the nets called `names`.

    A net and its peers take turns, each in a process of its own. These processes end before those
    of the next net start. Ratios are only taken between a net and its peers, and the memory of the
    machine must hold a single net with its peers. Figures of different nets are minutes apart.

    Args:
        names: nets in `tinyconv.list_models()`.
        batch_sizes: images per step of training.
        runs: the number of measurements of each figure.
        seconds: the approximate minimal length of a measurement of training or inference.
        on_step: a function that is called after each step with the number of finished steps. The
            total is `steps(names, runs, peers)`.
        peers: names in `tinyconv.timing.peers.names()`, which are timed for every net.

    Returns:
        A `Timing` for each net. The timings of the peers of a net follow that of the net.

    Raises:
        InputError: a net or a peer is unknown or cannot be run, or a process died.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # processes share a GPU's memory
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    timings: list[Timing] = []
    done = itertools.count(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, peer in itertools.product(names, peers):
            get(peer).prepare(name, folder)
        for name in names:
            with contextlib.ExitStack() as stack:
                workers = []
                for peer in ("", *peers):
                    worker = _Worker(peer, name, batch_sizes, seconds, folder)
                    workers.append(stack.enter_context(worker))
                    on_step(next(done))
                for _ in range(runs):
                    for worker in workers:
                        worker.ask("run")
                        on_step(next(done))
                timings += [worker.ask("result") for worker in workers]
    return timings


def steps(names: Sequence[str], runs: int, peers: Sequence[str]) -> int:
    """The number of steps that `measure` reports to `on_step`."""
    return len(names) * (1 + len(peers)) * (1 + runs)


class _Worker:
    """A stopwatch in another process, which ends at the end of the context."""

    def __init__(self, *arguments: Any):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, *arguments), daemon=True)
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            resource_tracker.ensure_running()  # a later start would unblock the signal
            before = signal.pthread_sigmask(
                signal.SIG_BLOCK, {signal.SIGINT}
            )  # the child inherits the mask
            try:
                self.process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        else:
            self.process.start()
        theirs.close()
        self.ask()

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join()

    def ask(self, method: str = "") -> Any:
        """Call a method of the stopwatch, and return its result. "" waits for its constructor.

        Raises:
            InputError: the process died, or the stopwatch raised an `InputError`.
        """
        try:
            if method:
                self.pipe.send(method)
            answer = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise InputError(
                "A process that timed a net died, perhaps for lack of memory; compare with fewer "
                "peers at once."
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, peer: str, *arguments: Any) -> None:
    """Run a stopwatch in the child process, until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    terminal.prepare()
    try:
        from tinyconv.timing.keras_stopwatch import KerasStopwatch  # imports TensorFlow

        kind = get(peer) if peer else KerasStopwatch
        stopwatch = kind(*arguments)
        pipe.send(None)
        while True:
            pipe.send(getattr(stopwatch, pipe.recv())())
    except (EOFError, ConnectionError):
        pass  # the parent has closed the pipe
    except Exception as error:
        pipe.send(error)
