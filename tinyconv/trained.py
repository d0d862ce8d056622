"""Trained models: those that ship with the package, and those in run folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv import registry, saving
from tinyconv.errors import InputError
from tinyconv.training import data_path

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Trained:
    """A trained model and what is known of it.

    `class_names` are those of its outputs, or None if nothing beside the model says what they are.
    `data` and `data_range` are those it was trained on, as for `tinyconv.data.load`, if they are
    known; `data` may be a path that no longer exists. `probabilities` says whether its outputs are
    probabilities rather than logits.
    """

    model: keras.Model
    class_names: tuple[str, ...] | None
    data: str | None
    data_range: Any = None
    probabilities: bool = False


def folder() -> Path:
    """Where the models are that ship: in the package of a wheel, or beside it in a checkout."""
    inside = Path(__file__).parent / "models"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "models"


def shipped() -> dict[str, str]:
    """The nets that ship trained, and the sha256 of each `NAME/model.keras` in `folder()`."""
    sums = folder() / "SHA256SUMS"
    if not sums.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines())
    return {Path(path).parent.name: digest for digest, path in lines}


def sha256(path: Path) -> str:
    """The digest of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def path(name: str) -> Path:
    """The file of the model that ships for the net called `name`.

    Raises:
        InputError: there is no such net, none ships, or its file is not the one that shipped.
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
    """The report of the run that made `file`: empty unless it is the `model.keras` of one."""
    beside = file.with_name("report.json")
    if file.name != "model.keras" or not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{beside} is damaged; restore it, or move {file.name} away.") from error
    return found if isinstance(found, dict) else {}


def data_name(report: dict[str, Any]) -> str:
    """The data that a report names, for a text: of a path, the last part alone."""
    return Path(report["run"]["data"]).name


def origin(file: Path) -> dict[str, Any]:
    """`file`, its sha256, and, from the report beside it, the run that made it and those before."""
    known = report(file)
    kept = ("run", "epochs", "started_from")
    return {"file": str(file.absolute()), "sha256": sha256(file)} | {
        k: known[k] for k in kept if k in known
    }


def find(model: str) -> Path:
    """The file of `model`: a `.keras` file, or the name of a net that ships trained.

    Raises:
        InputError: it is neither.
    """
    file = path(model) if model in registry.NETS else Path(model)
    if not file.exists() and file.suffix != ".keras":
        raise InputError(
            f"{model} is neither a .keras file nor a net that ships trained "
            f"({', '.join(sorted(shipped()))})."
        )
    return file


def open_model(model: str) -> Trained:
    """Load a trained model, and ask it about a few images to see what its outputs are.

    Args:
        model: a `.keras` file, or the name of a net that ships trained.

    Raises:
        InputError: it is neither, cannot be opened, puts out neither logits nor probabilities, or
            has more or fewer outputs than the report beside it has classes.
    """
    file = find(model)
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
    return Trained(opened, names, data, run.get("data_range"), probabilities)
