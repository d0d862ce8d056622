"""Export of trained models to files for phones, microcontrollers, browsers and C++.

A written file is run and compared with Keras, and removed if it disagrees. Each runtime has a
module in this package. The `FORMATS` of these modules are the only list of formats.
"""

import dataclasses
import functools
import importlib
import importlib.util
import pkgutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from tinyconv import atomic, terminal
from tinyconv.errors import InputError, unknown

if TYPE_CHECKING:
    from tinyconv.data.images import Crop

CALIBRATION = 200  # images from which int8 learns the range of each activation
CALLS = 100  # number of calls with one image that measure the latency
Runtime = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, 3) in uint8 -> logits (N, classes)


@dataclass(frozen=True)
class About:
    """What a written file says about a model beside its graph.

    Args:
        class_names: the names of the outputs, or None if they are not known.
        probabilities: whether the outputs are probabilities rather than logits.
        crop: as for `tinyconv.data.read_image`.
        runtime: the folder of the runtime that "web" copies, or None to find one.
    """

    class_names: Sequence[str] | None = None
    probabilities: bool = False
    crop: "Crop | None" = None
    runtime: Path | None = None


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Args:
        tail: the end of the name of a file, with a dot, or of a folder, without a dot.
        write: a function of a model, the path to write to and calibration images (N, H, W, 3), and
            of `About` if `about` is true.
        load: a function of the path of a written file. It returns a `Runtime`, which runs the file.
            "litert", "onnx" and "openvino" also take the number of `threads`, by default 1.
        packages: the packages that `write` and `load` need in addition to TensorFlow.
        extra: the extra of tinyconv that installs `packages`.
        same: the smallest allowed share of images in the same class as by Keras.
        difference: the largest allowed `Check.difference`.
        about: whether `write` takes an `About`.
        use: a sentence on how to use what was written, with {path} in place of its path.
        timed: whether the latency of `load`'s runtime says something about the target.
        complete: a function of the path and the class names. It adds files to a folder that agrees
            with Keras, and returns lines for a terminal. Default: there is nothing to add.
    """

    tail: str
    write: Callable[..., None]
    load: Callable[..., Runtime]
    packages: tuple[str, ...] = ()
    extra: str = "export"
    same: float = 0.0
    difference: float = 1e-4
    about: bool = False
    use: str = ""
    timed: bool = True
    complete: Callable[[Path, Sequence[str]], str] | None = None


@dataclass(frozen=True)
class Check:
    """The logits of a written file, compared with those of Keras.

    Args:
        logits: of the file, (N, classes).
        keras: the logits of Keras, (N, classes).
        labels: the classes of the images, (N,), or None if they are not known.
        latency: seconds for one image on one thread, the median of several calls, or None if it
            was not measured.
        size: bytes of the file, or of all files in the folder that the runtime reads.
        notes: what else the format says of the file, in lines for a terminal.
    """

    logits: np.ndarray
    keras: np.ndarray
    labels: np.ndarray | None
    latency: float | None
    size: int
    notes: str = ""

    @property
    def same(self) -> float:
        """The share of images that the file and Keras assign to the same class."""
        return float((self.logits.argmax(-1) == self.keras.argmax(-1)).mean())

    @property
    def difference(self) -> float:
        """The largest difference of two logits, as a share of Keras' largest logit."""
        return float(np.abs(self.logits - self.keras).max() / np.abs(self.keras).max())

    def agrees(self, form: Format) -> bool:
        """Whether the differences from Keras are as small as `form` requires. NaN never is."""
        return self.same >= form.same and self.difference <= form.difference

    def text(self) -> str:
        """The comparison in lines for a terminal."""
        size = f"{self.size / 1000:,.0f} KB"
        if self.latency is not None:
            size += f", {1000 * self.latency:.2f} ms an image on one thread"
        lines = [
            size,
            f"{self.same:.2%} of {len(self.logits):,} images in the same class as by Keras, "
            f"outputs within {self.difference:.1e} of the largest",
        ]
        if self.labels is not None:
            ours, theirs = ((x.argmax(-1) == self.labels).mean() for x in (self.logits, self.keras))
            count = f"{len(self.labels):,}"
            lines.append(f"accuracy on these {count} images {ours:.2%}, by Keras {theirs:.2%}")
        return "\n".join([*lines, self.notes] if self.notes else lines)


@functools.cache
def formats() -> dict[str, Format]:
    """All formats by name, from the modules of this package."""
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "FORMATS", {})
    return found


def get(target: str) -> Format:
    """Get a format by its name.

    Raises:
        InputError: the name is unknown, Keras does not run on TensorFlow, or a package that the
            format needs is not installed.
    """
    if target not in formats():
        raise unknown("format", target, formats())
    if keras.backend.backend() != "tensorflow":
        raise InputError("TensorFlow writes the exports; unset KERAS_BACKEND.")
    form = formats()[target]
    for name in form.packages:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"{target} needs {name}: pip install 'tinyconv[{form.extra}]'.")
    return form


def check_path(path: Path, form: Format) -> None:
    """Check that a file of the format `form` can be written to `path`, and make its folder.

    Raises:
        InputError: `path` has another ending, is there already, or cannot be written.
    """
    _, dot, suffix = form.tail.partition(".")
    if dot and path.suffix != dot + suffix:
        raise InputError(f"{path} must end in .{suffix}.")
    atomic.check_new(path)
    atomic.check_writable(path.parent)


def export(
    model: keras.Model,
    target: str,
    path: str | Path,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
    about: About | None = None,
) -> Check:
    """Export a trained model, run the written file and compare its logits with those of Keras.

    Args:
        model: a functional model from images to logits.
        target: the name of a format, as in docs/deploy.md.
        path: the file to write, or the folder if the format is a folder. It must not exist.
        images: images to compare with, (N, height, width, 3) in uint8.
        labels: the classes of `images`, (N,), if they are known.
        calibration: images from which "litert-int8" and "micro" learn the range of each
            activation, of the shape of `images`. They should not be among `images`. Default:
            `images`.
        about: the names of the classes and other facts, for "micro" and "web".

    Returns:
        The comparison, with the size and the latency of the file. `print(check.text())` shows it.

    Raises:
        InputError: the model cannot be written, or the file disagrees with Keras. No file is left.

    Example:

    ```python
    model = tinyconv.create_model("resnet20", pretrained=True)
    images = np.random.default_rng(0).integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    print(exporters.export(model, "savedmodel", "resnet20-savedmodel", images).text())
    ```
    """
    path, form = Path(path), get(target)
    check_path(path, form)
    facts = (about or About(),) if form.about else ()
    with (
        tempfile.TemporaryDirectory(prefix=atomic.PARTIAL, dir=path.parent) as folder,
        terminal.held_back(),
        terminal.without_misleading_logs(),
    ):
        written = Path(folder, path.name)
        try:
            form.write(model, written, images if calibration is None else calibration, *facts)
            run = form.load(written)
            logits = run(images)
        except InputError:
            raise
        except Exception as error:  # converters and runtimes raise errors of many types
            said = " ".join(str(error).split())[:200]
            raise InputError(
                f"{model.name} cannot be written as {target} ({type(error).__name__}: {said})."
            ) from error
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        check = Check(
            logits,
            np.asarray(model.predict(images, verbose=0), np.float32),
            labels,
            _latency(run, images[:1]) if form.timed else None,
            sum(file.stat().st_size for file in files),
        )
        if not check.agrees(form):
            outputs = (
                f", and outputs differ by {check.difference:.1e} of the largest, where "
                f"{form.difference:.0e} is allowed"
            )
            raise InputError(
                f"{path} disagrees with Keras and was removed: {check.same:.1%} of "
                f"{len(images):,} images are in the same class, where {form.same:.0%} must be"
                f"{outputs if np.isfinite(form.difference) else ''}."
            )
        if form.complete:
            numbers = [str(index) for index in range(logits.shape[-1])]
            names = (about and about.class_names) or numbers
            notes = form.complete(written, names if len(names) == len(numbers) else numbers)
            check = dataclasses.replace(check, notes=notes)
        written.rename(path)
    return check


def _latency(run: Runtime, image: np.ndarray) -> float:
    """The median of the seconds that `CALLS` calls with one image take."""

    def call() -> float:
        start = time.perf_counter()
        run(image)
        return time.perf_counter() - start

    return statistics.median(call() for _ in range(CALLS))


def signature(model: keras.Model) -> list[keras.InputSpec]:
    """The input of an exported model: any number of float images, under the name "image"."""
    return [keras.InputSpec(shape=model.input_shape, dtype="float32", name="image")]


def in_batches(run: Runtime) -> Runtime:
    """Turn a function of a batch of float32 images into a function of any number of images."""

    def run_all(images: np.ndarray) -> np.ndarray:
        batches = np.split(images.astype(np.float32), range(64, len(images), 64))
        return np.concatenate([run(batch) for batch in batches])

    return run_all
