"""What a command writes, and what it does not: escapes, bars, the lines of TensorFlow's import."""

import builtins
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import keras
import pytest
from conftest import ROOT, command, run

import tinyconv
from tinyconv import __version__, cli, imports, prediction, terminal

FAKE = """
import os, sys, warnings
os.write(2, b"one of TensorFlow's lines\\n")
warnings.warn("of Python")
{then}
class config:
    list_physical_devices = staticmethod(lambda kind: {gpus})
os.write(2, b"the last\\n")
"""
IMPORT = """
import sys
from tinyconv import cli, terminal
terminal.GPU_FILES = sys.argv[1:]
def main():
    import tensorflow
    from tqdm import tqdm
    list(tqdm(range(3)))
    print("done", file=sys.stderr)
cli.run(main)
"""
HELD = "one of TensorFlow's lines"


@pytest.mark.parametrize(
    ("then", "gpus", "gpu_file", "log_level", "status", "shown"),
    [
        ("", [], "/no/gpu", "3", 0, False),
        ("", [0], "/dev/null", "3", 0, False),
        ("", [], "/dev/null", "3", 0, True),
        ("", [], "/no/gpu", "0", 0, True),
        ("raise ImportError('no such library')", [], "/no/gpu", "3", 1, True),
        ("os.abort()", [], "/no/gpu", "3", -6, True),
        ("os.kill(os.getpid(), 9)", [], "/no/gpu", "3", -9, True),
    ],
    ids=["CPU", "GPU", "GPU not found", "level chosen", "ImportError", "abort", "killed"],
)
def test_lines_of_an_import_are_held_back_unless_they_matter(
    then, gpus, gpu_file, log_level, status, shown, tmp_path
):
    (tmp_path / "tensorflow.py").write_text(FAKE.format(then=then, gpus=gpus))
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "TF_CPP_MIN_LOG_LEVEL": log_level}
    environment["KERAS_BACKEND"] = "tensorflow"
    _, err = run("-c", IMPORT, gpu_file, status=status, **environment)
    assert (HELD in err) == shown
    assert ("the last" in err) == (shown and not then)
    assert "UserWarning: of Python" in err
    assert ("no such library" in err) == ("ImportError" in then)
    unfound = gpu_file == "/dev/null" and not gpus
    assert ("warning: this machine has an NVIDIA GPU" in err) == unfound
    assert err.endswith("done\n") == (not then) and "3/3" not in err


def test_a_gpu_that_the_user_hides_gives_no_warning(monkeypatch):
    monkeypatch.setattr(terminal, "GPU_FILES", ["/dev/null"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert terminal._has_gpu()
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not terminal._has_gpu()


def test_a_process_that_an_import_leaves_behind_is_not_waited_for(monkeypatch):
    """It keeps its file descriptor 2, as the trackers of `multiprocessing` do."""
    monkeypatch.setattr(terminal, "PATIENCE", 0.1, raising=False)
    with terminal.held_back():
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert left.poll() is None
    left.kill()
    left.wait()


def test_a_stream_without_a_file_is_left_alone(monkeypatch):
    """As pytest and notebooks have it."""
    stream = Stream("utf-8", False)
    monkeypatch.setattr(sys, "stderr", stream)
    opened = os.listdir("/dev/fd")  # noqa: PTH208
    with terminal.held_back():
        assert sys.stderr is stream
    assert os.listdir("/dev/fd") == opened  # noqa: PTH208


@pytest.mark.slow
def test_a_redirected_run_is_short_and_writes_every_name(folder, tmp_path):
    """Where the output is a file in the code page of Windows, or in ASCII."""
    (folder / "blue").rename(folder / "蓝色")
    (folder / "red" / "0.png").rename(folder / "red" / "größe 红.png")
    arguments = ("--data", folder, "--model", "cifar10_tiny_half", "--epoch", 2, "--batch", 8)
    out, err = decoded("cp1252", "train.py", *arguments, "--out", tmp_path / "runs")
    assert "\\u84dd\\u8272" in out
    assert not set("\r\b\x1b") & set(out) and "━" not in out
    results = [line for line in out.splitlines() if "val_accuracy" in line]
    assert len(results) == 2 and all(line.startswith("5/5 - ") for line in results)
    assert "oneDNN" not in err and "absl" not in err
    model = next((tmp_path / "runs").glob("*/model.keras"))
    assert "蓝色" in json.loads(model.with_name("report.json").read_text())["classes"]
    for encoding, name in (("ascii", "gr\\xf6\\xdfe \\u7ea2.png"), ("cp1252", "größe \\u7ea2.png")):
        both = (("evaluate", model), ("predict", model, folder / "red"))
        streams = zip(*(command(*given, encoding=encoding) for given in both), strict=True)
        shown, err = map("".join, streams)
        assert name in shown and shown.count("\\u84dd\\u8272") >= 2
        assert "images right" in shown and "Traceback" not in err and "\r" not in shown


def decoded(encoding, *arguments):
    """`python ARGUMENTS...` with its streams in `encoding`, and what it wrote."""
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    out, err = process.stdout.decode(encoding), process.stderr.decode(encoding)
    assert process.returncode == 0, err[-3000:]
    return out, err


class Stream(io.TextIOWrapper):
    def __init__(self, encoding, terminal):
        super().__init__(io.BytesIO(), encoding)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("encoding", "tty", "expected"),
    [("utf-8", True, True), ("utf-8", False, False), ("ascii", True, False)],
)
def test_bars_are_for_terminals_that_show_them(encoding, tty, expected, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream(encoding, tty))
    assert terminal.bars() == expected
    assert set(prediction.bar(0.5)) == ({"█"} if encoding == "utf-8" else {"#"})


def test_a_notebook_shows_bars_and_quietens_tensorflow(monkeypatch):
    """A kernel has `sys.stdout` of a class of ipykernel, which is no terminal."""
    monkeypatch.setattr(Stream, "__module__", "ipykernel.iostream")
    monkeypatch.setattr(sys, "stdout", Stream("utf-8", False))
    monkeypatch.delenv(terminal.LOG_LEVEL, raising=False)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert terminal.bars()
    importlib.reload(tinyconv)
    assert os.environ[terminal.LOG_LEVEL] == terminal.QUIET
    assert "TQDM_DISABLE" not in os.environ  # the bars of the user's own code stay
    monkeypatch.delenv(terminal.LOG_LEVEL)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    importlib.reload(tinyconv)
    assert terminal.LOG_LEVEL not in os.environ


def test_misleading_logs_of_tensorflow_are_left_out_and_others_are_not(small, caplog):
    import tensorflow as tf

    from tinyconv.outputs import are_probabilities

    for _ in range(6):  # TensorFlow warns of the fifth of the models
        are_probabilities(keras.models.load_model(small), small)
    logger = tf.get_logger()
    with terminal.without_misleading_logs():
        logger.warning("6 calls triggered tf.function retracing")
        logger.warning("Assets written to: .partial-x/assets")
        logger.warning("another")
    logger.warning("later calls triggered tf.function retracing")
    assert [r.message for r in caplog.records if r.name == "tensorflow"] == [
        "another",
        "later calls triggered tf.function retracing",
    ]


def test_version_needs_no_keras():
    code = """
import sys
from tinyconv import cli
for command in ([], ["train"], ["time"]):
    try:
        cli.parse([*command, "--version"])
    except SystemExit as end:
        assert end.code == 0
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    out, _ = run("-c", code)
    assert out.splitlines() == [f"tinyconv {__version__}"] * 3


def test_a_command_without_streams_of_its_own(monkeypatch):
    """Under IDLE or pythonw, where `sys.stdout` is another object, or None."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    cli.run(lambda: print("ü"))
    assert sys.stdout.getvalue() == "ü\n"


ALONE = """
import sys
from tinyconv import cli, imports
def main():
    import keras
    print(keras.backend.backend(), *(name for name in imports.UNUSED if name in sys.modules))
    for name in sys.argv[1:]:
        __import__(name)
    keras.ops.ones(2) + 1
cli.run(main)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_command_imports_keras_without_packages_that_no_command_uses(backend):
    """It can import them afterwards."""
    pytest.importorskip(backend)
    installed = [name for name in imports.UNUSED if importlib.util.find_spec(name)]
    assert {"sklearn", "matplotlib"} <= {*installed}
    printed, _ = run("-c", ALONE, *installed, KERAS_BACKEND=backend)
    assert printed.split() == [backend, *(["jax"] if backend == "jax" else [])]


def test_hooks_of_an_import_run_once_each_and_not_after_it(tmp_path, monkeypatch):
    (tmp_path / "some_module.py").write_text("entered = list(log)\n")
    log = []

    @contextmanager
    def first():
        log.append("first")
        yield

    @contextmanager
    def second():
        log.append("second")
        yield
        log.append("end")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(builtins, "log", log, raising=False)
    for context in (first, second, first):
        imports.within("some_module", context)
    assert importlib.util.find_spec("some_module") and log == []
    assert importlib.import_module("some_module").entered == ["second", "first"]
    imports.within("some_module", first)
    importlib.import_module("some_module")
    assert log == ["second", "first", "end"]
    del sys.modules["some_module"]


def test_a_note_in_a_notebook_does_not_look_like_an_error(monkeypatch, capsys):
    terminal.note("a note")
    assert capsys.readouterr() == ("", "a note\n")
    monkeypatch.setattr(terminal, "in_notebook", lambda: True)
    terminal.note("a note")
    assert capsys.readouterr() == ("a note\n", "")
