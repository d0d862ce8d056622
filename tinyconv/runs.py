"""What makes a run, and how a run folder keeps it."""

import csv
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tinyconv import __version__, registry
from tinyconv.errors import InputError
from tinyconv.recipes import Recipe


@dataclass(frozen=True)
class Run:
    """What makes one training: the same `Run` on the same machine gives the same figures.

    `model` is a net by name, or a `.keras` file to start from, with a new head unless the report
    beside it names the classes of the data; with `freeze` the head alone is trained. `recipe` is
    the name of a recipe; `train` looks it up, and `resume` takes the recipe that the report holds.
    `fast` trains by what `tinyconv.fast` has for a CPU: fused blocks by TensorFlow in float32,
    shifted convolutions by JAX. `tpu` and `devices` are as `tinyconv.devices.Devices` takes them,
    and `data_range` is as `tinyconv.data.load` takes it.
    """

    model: str
    data: str
    recipe: str
    epochs: int
    batch_size: int
    augment: bool
    seed: int = 0
    holdout: int = 0
    mixed: bool = False
    tpu: str | None = None
    freeze: bool = False
    devices: int | None = None
    fast: bool = True
    data_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.model.endswith(".keras"):
            registry.find(self.model)
            if self.freeze:
                raise InputError("--freeze needs a trained model: --model FILE.keras.")
        counts = {"number of epochs": self.epochs, "batch size": self.batch_size}
        for name, value in (counts | {"seed": self.seed}).items():
            if not isinstance(value, int):
                raise InputError(f"The {name} is {value!r}; it must be a whole number.")
        for name, value in counts.items():
            if not 1 <= value <= 1_000_000:
                raise InputError(f"The {name} is {value}; it must be 1 to 1,000,000.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"The seed is {self.seed}; it must be in 0..{2**31 - 1}.")


@dataclass(frozen=True)
class Stored:
    """What a run folder holds of a run: `facts` is its whole report."""

    run: Run
    recipe: Recipe
    facts: dict[str, Any]
    history: list[dict[str, float]]


def read(folder: Path) -> Stored:
    """Read a run folder to go on with.

    Raises:
        InputError: `folder` is not a run folder, or a newer version of tinyconv wrote it.
    """
    try:
        facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        run = _make(Run, facts["run"], folder)
        stored = facts["recipe"]
        recipe = _make(Recipe, stored | {"augment": tuple(stored["augment"])}, folder)
        kinds = ((facts["images"], dict), (facts["classes"], list), (run.data, str))
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise TypeError("images, classes or data of another type")
        with (folder / "history.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        history = [{key: _number(value) for key, value in row.items()} for row in rows]
        if not history:
            raise ValueError("no epoch")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {Path(error.filename).name}; --resume needs the folder of a run with "
            "at least one complete epoch."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is not a run folder of this version of tinyconv.") from error
    return Stored(run, recipe, facts, history)


def _make(kind: Any, stored: dict[str, Any], folder: Path) -> Any:
    if unknown := sorted(set(stored) - {field.name for field in fields(kind)}):
        raise InputError(
            f"{folder / 'report.json'} has {unknown[0]!r} in its {kind.__name__.lower()}, which "
            f"tinyconv {__version__} does not know; resume with the version that started the run."
        )
    return kind(**stored)


def _number(text: str) -> float | int:
    return int(text) if text.isdigit() else float(text)


def absolute(data: str) -> str:
    """`data` as an absolute path, unless it is a known name."""
    return data if is_name(data) else str(Path(data).absolute())


def is_name(data: str) -> bool:
    """Whether `data` is a source that tinyconv knows by name, and no path."""
    from tinyconv.data import SIZES

    return data in SIZES


def locate(data: str, before: str | None, folder: Path) -> str:
    """Where the data are now that a report names.

    Args:
        data: the data as the report names them.
        before: the absolute path that the run folder had when the report was written, if known.
        folder: the run folder now.

    Returns:
        `data` if it is a name or exists. Otherwise, where the run folder was moved together with
        its data, their new path; and `data` again where nothing exists.
    """
    if isinstance(before, str) and not is_here(data):
        try:
            moved = os.path.normpath(folder.absolute() / os.path.relpath(data, before))
        except ValueError:  # on Windows, another drive
            return data
        if is_here(moved):
            return moved
    return data


def is_here(data: str) -> bool:
    """Whether `data` is a known name or a path that exists."""
    return is_name(data) or Path(data).exists()


def check_data(data: str, folder: Path) -> None:
    """Raise `InputError` if the data that the report of a run names do not exist."""
    if not is_here(data):
        where = "" if Path(data).is_absolute() else f" in {Path.cwd()}"
        raise InputError(
            f"{folder / 'report.json'} names the data {data}, which do not exist{where}; move them "
            "back there."
        )


def check_recipe(recipe: Recipe) -> None:
    """Raise `InputError` if `recipe` names an augmentation that does not exist."""
    from tinyconv import augment

    for name in recipe.augment:
        augment.find(name)
