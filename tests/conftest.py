"""What the tests share: small data in every form, and commands run as a user runs them."""

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from golden import make_timm
from PIL import Image

from tinyconv import cli

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]


DEEP = ("resnet32", "resnet44", "resnet56")  # nets that differ from resnet20 by their depth alone


def pytest_collection_modifyitems(items):
    """Mark the tests of a deep net among all nets as slow."""
    for item in items:
        if any(net in item.name for net in DEEP):
            item.add_marker(pytest.mark.slow)


def start(*arguments, group=False, **environment):
    """Start `python ARGUMENTS...` as a user would, its output in pipes, maybe in its own group."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
    )


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def run(*arguments, status=0, **environment):
    """Run `python ARGUMENTS...` to its end and return what it printed on both streams."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err[-3000:]
    return out, err


def command(*arguments, status=0, encoding="utf-8"):
    """Run `tinyconv ARGUMENTS...` in this process and return what it printed on both streams.

    A new process would take five seconds to import TensorFlow. `run` is for what needs one.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    printed, said = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    assert code == status, said
    return printed, said


def colours(count, seed):
    """Images of three classes that a net tells apart at once: mostly red, green or blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, 32, 32, 3))
    images[np.arange(count), :, :, labels] += 150
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def arrays():
    x_train, y_train = colours(48, seed=0)
    x_test, y_test = colours(24, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture(scope="session")
def npz(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder, für Bilder") / "colours.npz"
    np.savez(path, **arrays, class_names=["red", "green", "blue"])
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A model that is traced in a second, for tests of training in which the net does not matter.

    It has the kinds of layers that training treats apart: a convolution, a batch norm, a dense
    layer and a head.
    """
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255, name="normalize")(image)
    x = keras.layers.Conv2D(8, 3, 2, use_bias=False, name="stem_conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="stem_norm")(x)
    x = keras.layers.Dense(8, "relu", name="stem_dense")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="head_dense")(x), name="small")
    path = tmp_path_factory.mktemp("small") / "small.keras"
    model.save(path)
    return path


@pytest.fixture
def folder(tmp_path, arrays):
    """A folder of PNG images of several sizes, 16 a class."""
    names = ("red", "green", "blue")
    for i, (image, label) in enumerate(zip(arrays["x_train"], arrays["y_train"], strict=True)):
        path = tmp_path / "photos" / names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((20 + i, 40)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def timm():
    """timm, or a test that is skipped."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    try:
        return make_timm.import_timm()
    except Exception as error:  # a torchvision that does not fit its PyTorch raises RuntimeError
        pytest.skip(f"timm cannot be imported ({type(error).__name__}: {error})")
