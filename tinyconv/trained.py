"""Trained models that ship with the package or are in run folders."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv import hub, registry, saving
from tinyconv.errors import InputError
from tinyconv.facts import Weights
from tinyconv.training import data_path
from tinyconv.weights import classes, fetch

if TYPE_CHECKING:
    import keras

    from tinyconv.data.images import Crop


@dataclass(frozen=True)
class Trained:
    """A trained model with the facts that its report gives.

    Args:
        model: the model.
        class_names: the names of its outputs, or None if no report names them.
        data: the data that the model was trained on, as for `tinyconv.data.load`, or None if they
            are not known. A path may no longer exist.
        file: the file of the model, or None for published weights.
        data_range: the data range of the training, as for `tinyconv.data.load`.
        probabilities: whether the outputs are probabilities rather than logits.
        crop: as for `tinyconv.data.read_image`.
        folders: as for `tinyconv.data.load_test`.
        temperature: the number that calibration has divided the logits by.
    """

    model: keras.Model
    class_names: tuple[str, ...] | None
    data: str | None
    file: Path | None = None
    data_range: Any = None
    probabilities: bool = False
    crop: Crop | None = None
    folders: Mapping[str, str] | None = None
    temperature: float | None = None


def folder() -> Path:
    """The folder of the models that ship: in an installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "models"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "models"


def shipped() -> dict[str, str]:
    """A dict from each net that ships trained to the sha256 of `NAME/model.keras`."""
    sums = folder() / "SHA256SUMS"
    if not sums.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines())
    return {Path(path).parent.name: digest for digest, path in lines}


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def path(name: str) -> Path:
    """The path of the trained model that ships for the net called `name`.

    Raises:
        InputError: the net does not exist, no model ships for it, or the file was changed.
    """
    net = registry.get(name)
    sums = shipped()
    if name not in sums:
        which = f"those of {', '.join(sorted(sums))} do" if sums else "none do here"
        raise InputError(
            f"No weights ship for {name} ({which}): train it, or convert those of {net.source}."
        )
    file = folder() / name / "model.keras"
    if not file.is_file() or sha256(file) != sums[name]:
        raise InputError(
            f"{file} is not the file that shipped, as its sha256 tells; install tinyconv anew, or "
            "check the file out again."
        )
    return file


def report(file: Path) -> dict[str, Any]:
    """The report of the run that made `file`. It is empty if `file` is not in a run folder.

    Raises:
        InputError: the report is damaged.
    """
    beside = file.with_name("report.json")
    if file.name != "model.keras" or not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{beside} is damaged; restore it, or move {file.name} away.") from error
    return found if isinstance(found, dict) else {}


def data_name(report: dict[str, Any]) -> str:
    """The data that a report names, for a text. Of a path, this is the last part."""
    data = report["run"]["data"]
    return data if is_set(data) else Path(data).name


def is_set(data: str) -> bool:
    """Whether `data` are a set of TensorFlow Datasets or of the Hub, by its name."""
    return data.startswith(("tfds:", "hf:"))


def origin(model: str) -> dict[str, Any]:
    """The origin of a model: its file, its sha256, and the run that made it.

    The dict also has the origin of the model that the run started from, if it started from one.

    Args:
        model: as for `open_model`.
    """
    if published := _published(model):
        net, weights = published
        file = fetch.weights(net, weights)
        return {"file": weights.url, "sha256": sha256(file), "name": f"{net}.{weights.tag}"}
    file = model_file(model)
    known = report(file)
    kept = ("run", "epochs", "started_from", "teacher")
    return {"file": str(file.absolute()), "sha256": sha256(file)} | {
        k: known[k] for k in kept if k in known
    }


def model_file(model: str) -> Path:
    """The file of a trained model, downloaded if the model is on the Hub.

    Args:
        model: a `.keras` file, a run folder, the name of weights that ship, or hf://USER/NAME. A
            net stands for its weights.

    Returns:
        The file. Of a model on the Hub without `model.keras`, this is the folder of its parts.

    Raises:
        InputError: `model` is none of these, or cannot be downloaded.
    """
    if hub.is_address(model):
        snapshot = hub.download(model)
        whole = snapshot / "model.keras"
        return whole if whole.is_file() else snapshot
    named = model in registry.NETS or registry.is_pretrained(model)
    file = path(registry.get(model).name) if named else Path(model)
    if file.is_dir():
        if not (file / "model.keras").is_file():
            raise InputError(f"{model} is no run folder, since it has no model.keras.")
        return file / "model.keras"
    if not file.exists() and file.suffix != ".keras":
        raise InputError(
            f"{model} is neither a .keras file nor a trained model that has a name; tinyconv list "
            "--pretrained shows the names."
        )
    return file


def located(model: str) -> str:
    """The file of a trained model in a run folder or on the Hub. Other names are unchanged.

    Raises:
        InputError: the folder or the repository has no `model.keras`.
    """
    if model not in registry.NETS and (hub.is_address(model) or Path(model).is_dir()):
        file = model_file(model)
        if file.is_dir():
            raise InputError(f"{model} has no model.keras to start from; it has the parts alone.")
        return str(file)
    return model


def open_model(model: str) -> Trained:
    """Load a trained model, and find out whether its outputs are probabilities.

    Args:
        model: a `.keras` file, a run folder, a net, the name of weights, as NET.TAG, or a model on
            the Hub, as hf://USER/NAME.

    Returns:
        The model with the facts from the report beside it, or from the registry.

    Raises:
        InputError: `model` is none of these, or cannot be loaded; its outputs are neither logits
            nor probabilities; or their number is not that of the classes in the report.
    """
    if published := _published(model):
        return _open_published(*published)
    file = model_file(model)
    opened = saving.load_model(file)
    known = report(file)
    names, run = known.get("classes"), known.get("run")
    names = tuple(map(str, names)) if isinstance(names, list) else None
    if names is not None and len(names) != opened.output_shape[-1]:
        raise InputError(
            f"{file} has {opened.output_shape[-1]} outputs, but the report.json beside it names "
            f"{len(names)} classes; restore the one that belongs to it, or move {file.name} away."
        )
    from tinyconv import outputs

    run = run if isinstance(run, dict) else {}
    data = run.get("data")
    data = (
        data_path.locate(data, known.get("folder"), file.parent) if isinstance(data, str) else None
    )
    probabilities = outputs.are_probabilities(opened, file)
    return Trained(
        opened,
        names,
        data,
        file,
        run.get("data_range"),
        probabilities,
        temperature=known.get("temperature"),
    )


def _published(model: str) -> tuple[str, Weights] | None:
    """The net and the published weights that a name stands for; None for anything else."""
    if model not in registry.NETS and not registry.is_pretrained(model):
        return None
    weights = registry.published(model)
    return (registry.get(model).name, weights) if weights else None


def _open_published(name: str, weights: Weights) -> Trained:
    from tinyconv.data.images import Crop
    from tinyconv.factory import create_model

    model = create_model(f"{name}.{weights.tag}", pretrained=True)
    data, net = weights.accuracy.data, registry.get(name)
    try:
        names, folders = classes.read(data)
    except InputError as error:
        print(f"The classes have numbers, not names: {error}", file=sys.stderr)
        names, folders = None, {}
    crop = Crop(net.crop, net.interpolation) if net.crop < 1 else None
    return Trained(model, names, data, crop=crop, folders=folders)
