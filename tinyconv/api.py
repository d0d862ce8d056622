"""Evaluation, prediction and export of a trained model, given by name or file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.atomic import check_new, check_writable
from tinyconv.errors import InputError
from tinyconv.trained import Trained, open_model
from tinyconv.training import data_path

if TYPE_CHECKING:
    from tinyconv.data.ranges import Range
    from tinyconv.data.splits import Split
    from tinyconv.exporters import Check
    from tinyconv.report import Evaluation


@dataclass(frozen=True)
class Result:
    """The result of `evaluate`. Its `str` is a report with the figures of each class.

    Args:
        evaluation: outputs (N, classes) and labels (N,), with `accuracy`, `loss` and `top5`.
        class_names: the names of the classes, in the order of the outputs.
        images: a description of the images.
        split: the images, and their labels.
        temperature: the number that calibration has divided the logits by, or None.
    """

    evaluation: Evaluation
    class_names: tuple[str, ...]
    images: str
    split: Split
    temperature: float | None = None

    @property
    def accuracy(self) -> float:
        """The share of images, 0 to 1, whose most probable class is right."""
        return self.evaluation.accuracy

    def __repr__(self) -> str:  # what a notebook shows of the last line of a cell
        return str(self)

    def __str__(self) -> str:
        return f"{self.images}\n{self.evaluation.text(self.class_names)}"

    def draw(self, folder: str | Path) -> None:
        """Write pictures to a folder.

        `confusion.png` is the confusion matrix. `reliability.png` has the share of right answers by
        their probability. `mistakes.png` has the wrong answers with the highest probabilities.

        Args:
            folder: the folder. It is made if it does not exist.

        Raises:
            InputError: a file of that name exists, or cannot be written.
        """
        from tinyconv import plots, sheets

        paths = check_pictures(folder)
        found, names = self.evaluation, self.class_names
        title = f"{self.images}: {self.accuracy:.2%} right"
        plots.confusion(found.confusion(len(names)), names, title, paths[0])
        parts = {"calibrated" if self.temperature else "": found.reliability()}
        if self.temperature:
            before = replace(found, logits=self.temperature * found.logits)
            parts["before calibration"] = before.reliability()
        sheets.reliability(parts, title, paths[1])
        sheets.mistakes(self.split, found.shares, names, title, paths[2])


def check_pictures(folder: str | Path) -> list[Path]:
    """Check that `Result.draw` can write to a folder. Make the folder if it does not exist.

    Returns:
        The paths of the pictures: confusion, reliability, mistakes.

    Raises:
        InputError: a file of that name exists, or cannot be written.
    """
    paths = [Path(folder, f"{name}.png") for name in ("confusion", "reliability", "mistakes")]
    for path in paths:
        check_new(path)
    check_writable(Path(folder))
    return paths


def evaluate(
    model: str | Path, data: str | Path | None = None, *, data_range: Range | None = None
) -> Result:
    """Evaluate a trained model on test images.

    Args:
        model: a `.keras` file, a run folder, one of `list_models(pretrained=True)`, or
            hf://USER/NAME.
        data: as for `tinyconv.train`. All images of a folder without splits are read. Default: the
            data that the model was trained on.
        data_range: the values of black and white in an `.npz`. Default: 0 and 255.

    Returns:
        The accuracy, the loss and a report with the figures of each class.

    Raises:
        InputError: the model or the data do not exist, or do not fit together.

    Example:

    ```python
    print(tinyconv.evaluate("cifar10_tiny", "cifar10").accuracy)
    ```
    """
    opened = open_model(str(model))
    from tinyconv import data as datasets
    from tinyconv import report
    from tinyconv.devices import Devices
    from tinyconv.fast.twin import twin

    if not data and opened.data == "imagenet":
        raise InputError(f"{model} was trained on ImageNet; give a folder of its images: --data.")
    spec = str(data or opened.data or "cifar10")
    if not data and opened.file:
        data_path.check(spec, opened.file.parent)
    split, names, what = datasets.load_test(
        spec,
        opened.model.input_shape[1:3],
        opened.class_names,
        opened.data,
        _range(opened, data, data_range),
        opened.crop,
        opened.folders,
    )
    classes = opened.model.output_shape[-1]
    if classes != len(names):
        raise InputError(f"{model} has {classes} classes, but {spec} has {len(names)}.")
    if opened.class_names is None:
        print(
            "No report.json beside the model names its classes; its outputs are taken in the order "
            f"of {', '.join(names[:10])}{', ...' if len(names) > 10 else '.'}",
            file=sys.stderr,
        )
    fast = Devices().can_fuse
    net = twin(opened.model, training=False) if fast else opened.model
    found = report.evaluate(net, split, probabilities=opened.probabilities)
    return Result(found, names, what, split, opened.temperature)


def predict(model: str | Path, images: str | Path | Iterable[str | Path]) -> list[dict[str, Any]]:
    """Classify image files.

    Args:
        model: a `.keras` file, a run folder, one of `list_models(pretrained=True)`, or
            hf://USER/NAME.
        images: a file, a folder or a glob, or several of these.

    Returns:
        A dict for each image. `image` is the path. `top` lists the five most probable classes, in
        order of their probability, each as a dict of `class`, `index` and `probability`. An image
        that cannot be read has an error message under `error` and no `top`.

    Raises:
        InputError: the model does not exist or cannot be opened.

    Example:

    ```python
    for answer in tinyconv.predict("cifar10_tiny", "photos/*.png"):
        print(answer["image"], answer["top"][0]["class"])
    ```
    """
    opened = open_model(str(model))
    from tinyconv import prediction

    given = [images] if isinstance(images, str | Path) else images
    files = prediction.image_files([str(image) for image in given])
    names = opened.class_names or tuple(map(str, range(opened.model.output_shape[-1])))
    return list(prediction.records(opened.model, files, names, opened.probabilities, opened.crop))


def export(
    model: str | Path,
    to: str,
    out: str | Path | None = None,
    data: str | Path | None = None,
    *,
    images: int = 1000,
    data_range: Range | None = None,
    runtime: str | Path | None = None,
) -> Path:
    """Export a trained model, run the written file, and compare its outputs with those of Keras.

    Args:
        model: a `.keras` file, a run folder, one of `list_models(pretrained=True)`, or
            hf://USER/NAME.
        to: "litert", "litert-int8", "micro", "onnx", "openvino", "openvino-int8", "savedmodel" or
            "web".
        out: the file to write, or the folder if the format is a folder. It must not exist.
            Default: the name of the model with the ending of the format, in the current folder.
        data: the images for the comparison, as for `tinyconv.train`. Default: the data that the
            model was trained on, or noise if they are not known or do not exist.
        images: the number of images for the comparison.
        data_range: the values of black and white in an `.npz`. Default: 0 and 255.
        runtime: for "web", a folder of the npm package onnxruntime-web. Default: the one in
            `node_modules`, or what npm downloads. Without npm, the page loads it from a CDN.

    Returns:
        The path of the written file or folder.

    Raises:
        InputError: `out` exists, the model cannot be written in this format, or the outputs of the
            new file differ from those of Keras. No new file is left.

    Example:

    ```python
    tinyconv.export("cifar10_tiny", to="litert", out="cifar10_tiny.tflite")
    ```
    """
    path, _, _ = export_and_check(
        model, to, out, data, images=images, data_range=data_range, runtime=runtime
    )
    return path


def export_and_check(
    model: str | Path,
    to: str,
    out: str | Path | None,
    data: str | Path | None,
    *,
    images: int,
    data_range: Range | None,
    runtime: str | Path | None = None,
) -> tuple[Path, str, Check]:
    """Export a trained model and check the file. The arguments are those of `export`.

    Returns:
        The path, a description of the images for the comparison, and the comparison.

    Raises:
        InputError: as for `export`.
    """
    from tinyconv import exporters

    form = exporters.get(to)
    if images < 1:
        raise InputError(f"--images is {images}; it must be at least 1.")
    if runtime and to != "web":
        raise InputError(f"--runtime is for --to web, not for --to {to}.")
    opened = open_model(str(model))
    path = Path(out or f"{opened.model.name}{form.tail}")
    exporters.check_path(path, form)
    from tinyconv.exporters import samples

    spec = None if data is None else str(data)
    chosen = samples.choose(opened, spec, images, _range(opened, data, data_range))
    about = exporters.About(
        opened.class_names, opened.probabilities, opened.crop, Path(runtime) if runtime else None
    )
    check = exporters.export(
        opened.model, to, path, chosen.images, chosen.labels, chosen.calibration, about
    )
    return path, chosen.what, check


def _range(opened: Trained, data: str | Path | None, given: Range | None) -> Range | None:
    """The range `given` by the user, or else that of the data that the model was trained on."""
    return given or (None if data else opened.data_range)
