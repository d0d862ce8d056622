"""The standard streams of a command: encoding, progress bars, and TensorFlow's messages."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinyconv import imports

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
QUIET = "3"  # only fatal messages
RELEASE = b"\0"
MISLEADING = (  # messages of TensorFlow's loggers
    "triggered tf.function retracing",  # every model that is evaluated counts as a retracing
    "Providing without the trackable_obj argument is deprecated",  # the weights are constants
    "Assets written to: ",  # a temporary folder; notebooks show messages of this level
)
PATIENCE = 5  # seconds to wait for the process that writes the held-back text
KEEPER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
said = sys.stdin.buffer.read()
if not said.endswith(b"\\0"):
    sys.stderr.buffer.write(said)
"""
GPU_FILES = (
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/dxg",
)  # the last is for Windows Subsystem for Linux
NO_GPU = (
    "warning: this machine has an NVIDIA GPU, but TensorFlow does not find it and runs on the CPU; "
    f"{LOG_LEVEL}=0 shows TensorFlow's reasons.\n"
)


def prepare() -> None:
    """Prepare the streams of this process for a command.

    Characters that a stream cannot encode are written as escapes. tqdm draws no progress bars if
    stderr is not a terminal. TensorFlow is quiet, as by `quieten`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not (sys.stderr and sys.stderr.isatty()):
        os.environ.setdefault("TQDM_DISABLE", "1")
    quieten()


def quieten() -> None:
    """Let TensorFlow write only fatal messages, and nothing during its import.

    The log level of the user counts, if one is set. It is too late after TensorFlow's import.
    """
    if os.environ.setdefault(LOG_LEVEL, QUIET) == QUIET:
        imports.within("tensorflow", _quiet_import)


def shows(text: str) -> bool:
    """Whether stdout can encode `text`."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def bars() -> bool:
    """Whether stdout is a terminal or a notebook that can show Keras' progress bars."""
    return (sys.stdout.isatty() or in_notebook()) and shows("━")


def note(text: str) -> None:
    """Print a line to stderr, or in a notebook to stdout, because stderr looks like an error."""
    print(text, file=sys.stdout if in_notebook() else sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether stdout is the stream of a Jupyter kernel."""
    return type(sys.stdout).__module__.startswith("ipykernel.")


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold back what code outside Python writes to file descriptor 2.

    The context manager yields a function. If the block calls the function, the text is written at
    the end of the block. The text is also written if the block raises an error or the process dies.
    Text that Python writes to `sys.stderr` is not held back.
    """
    try:
        real = os.dup(2)
    except OSError:  # the process has no stderr
        yield lambda: None
        return
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", KEEPER], stdin=subprocess.PIPE, bufsize=0
    )
    assert keeper.stdin
    ends = [RELEASE]
    before = sys.stderr
    if replaced := _is_stderr(before):
        # The stream is never closed, because a logger may keep it.
        sys.stderr = open(real, "w", 1, before.encoding, before.errors, closefd=False)  # noqa: SIM115
    os.dup2(keeper.stdin.fileno(), 2)
    try:
        yield ends.clear
    except BaseException:
        ends.clear()
        raise
    finally:
        os.dup2(real, 2)
        if not replaced:
            os.close(real)
        sys.stderr = before
        keeper.stdin.write(b"".join(ends))
        keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # a child process may hold the pipe open
            keeper.wait(PATIENCE)


@contextmanager
def without_misleading_logs() -> Iterator[None]:
    """Leave out messages of TensorFlow's loggers that are wrong or misleading in tinyconv."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not any(words in record.getMessage() for words in MISLEADING)

    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    for logger in loggers:
        logger.addFilter(is_shown)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_shown)


def _is_stderr(stream: Any) -> bool:
    """Whether a stream writes to file descriptor 2."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == 2
    except (OSError, ValueError):  # the stream has no file, or is closed
        return False


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Hold back the messages of TensorFlow during its import and its search for devices."""
    with held_back() as show:
        yield
        devices = sys.modules["tensorflow"].config.list_physical_devices("GPU")
        if not devices and _has_gpu():
            show()
            sys.stderr.write(NO_GPU)


def _has_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU that the user has not hidden from TensorFlow."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path(file).exists() for file in GPU_FILES)
