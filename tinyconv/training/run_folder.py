"""The files of a run: history, checkpoint, model, report and pictures."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import __version__
from tinyconv.atomic import replacing, write_text
from tinyconv.errors import InputError
from tinyconv.recipe import Recipe
from tinyconv.saving import save_model
from tinyconv.table import table

if TYPE_CHECKING:
    import keras

    from tinyconv.report import Evaluation

CHECKPOINT = "checkpoint.npz"
HISTORY, MODEL, REPORT = "history.csv", "model.keras", "report.json"


class RunFolder:
    """The writer of a run folder.

    Args:
        path: the folder.
        title: the net and the data, for titles.
        test_name: the name of the test split.
        facts: the entries of the report that do not change during the run.
        history: the metrics of each complete epoch.
        writes: whether this host writes. Of several hosts, only the first host does.
    """

    def __init__(
        self,
        path: Path,
        *,
        title: str,
        test_name: str,
        facts: dict[str, Any],
        history: list[dict[str, float]],
        writes: bool,
    ):
        self.path, self.title, self.test_name = path, title, test_name
        self.facts, self.history, self.writes = facts, history, writes

    def save_report(self, status: str, **figures: Any) -> None:
        """Write `report.json`: the facts, the number of complete epochs, and `figures`."""
        content = {"status": status, **self.facts, "epochs": len(self.history), **figures}
        if self.writes:
            write_text(self.path / REPORT, json.dumps(content, indent=2) + "\n")

    def save_model(self, net: keras.Model) -> None:
        """Write `model.keras`."""
        if self.writes:
            save_model(net, self.path / MODEL)

    def save_epoch(self, net: keras.Model, state: dict[str, Any]) -> None:
        """Write the files of a run after a complete epoch.

        The checkpoint is written last. The other files then have every epoch of the checkpoint.

        Args:
            net: the model to save.
            state: the state to resume from, for the checkpoint.

        Raises:
            InputError: a file cannot be written.
        """
        if not self.writes:
            return
        rows = io.StringIO()
        writer = csv.DictWriter(rows, self.history[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_text(self.path / HISTORY, rows.getvalue())
        self.save_report("running")
        self.save_model(net)
        with replacing(self.path / CHECKPOINT) as partial:
            np.savez(partial, epochs=len(self.history), **state)  # HDF5 crashes on a full disk

    def read_checkpoint(self) -> tuple[int, dict[str, np.ndarray]]:
        """Read the number of epochs of the checkpoint, and the state after them.

        Raises:
            InputError: the checkpoint does not exist or is damaged, or has more epochs than the
                history.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            raise InputError(
                f"{self.path} has no {CHECKPOINT} to go on from; start a new run from its model: "
                f"--model {self.path / MODEL}."
            )
        try:
            with np.load(path) as file:
                state = dict(file)
            epochs = int(state.pop("epochs"))
        except Exception as error:  # a damaged archive raises errors of many types
            raise unreadable(path) from error
        if epochs > len(self.history):
            raise InputError(f"{self.path / HISTORY} has fewer epochs than {CHECKPOINT}.")
        return epochs, state

    def finish(
        self, outcome: dict[str, Any], train: Evaluation, test: Evaluation, images: int
    ) -> None:
        """Write the last report, as JSON, as text and as pictures, and print the text.

        Args:
            outcome: `status` ("complete" or "interrupted"), `kept_epoch`, `stopped` and the
                `temperature` of a calibrated model.
            train: the evaluation on the training images.
            test: the evaluation on the test images.
            images: the number of images per epoch.
        """
        if not self.writes:
            return
        from tinyconv import plots

        timing = _timing(self.history, images)
        names = self.facts["classes"]
        self.save_report(
            **outcome,
            train=train.figures(),
            test=test.figures(),
            timing=timing,
            test_by_class=test.by_class(names, as_dict=True),
        )
        text = self._text(outcome, train, test, timing)
        write_text(self.path / "report.txt", text)
        accuracy = (
            f"{100 * test.accuracy:.2f}% of {len(test.labels):,} {self.test_name} images right"
        )
        again = " from a trained model" if self.facts["started_from"] else ""
        length, kept = len(self.history), outcome["kept_epoch"]
        epochs = f"epoch {kept} of {length}" if kept and kept < length else f"{length} epochs"
        title = f"{self.title}, {epochs}{again}: {accuracy}"
        if self.history:
            curves = self.path / "curves.png"
            plots.curves(self.history, self.facts["validation"], title, curves)
        confusion = test.confusion(len(names))
        plots.confusion(confusion, names, title, self.path / "confusion.png")
        print(f"\n{text}\nSaved in {self.path}")

    def _text(
        self,
        outcome: dict[str, Any],
        train: Evaluation,
        test: Evaluation,
        timing: dict[str, float],
    ) -> str:
        facts, run = self.facts, self.facts["run"]
        titles = ("", "loss", "accuracy", "error", "top-5", "calibration error")
        rows: list[tuple[str, ...]] = [titles]
        for name, part in (("train", train), (self.test_name, test)):
            shares = (part.accuracy, 1 - part.accuracy, part.top5, part.reliability().error)
            rows.append((name, f"{part.loss:.4f}", *(f"{share:.2%}" for share in shares)))
        head = (
            f"{self.title}: {facts['parameters']:,} parameters, recipe {run['recipe']}, seed "
            f"{run['seed']}, {len(self.history)} of {run['epochs']} epochs, {outcome['status']}"
        )
        if run["early_stop"] or run["keep"] == "best":
            epoch = outcome["kept_epoch"]
            head += f"\nkept epoch {epoch}; " if epoch else "\n"
            head += f"stopped because {outcome['stopped']}"
        if temperature := outcome["temperature"]:
            head += f"\ncalibrated: the logits are divided by the temperature {temperature:.3f}"
        if source := facts["started_from"]:
            head += f"\nstarted from {source['file']}, {source['sha256']}"
        if source := facts["teacher"]:
            head += f"\ntaught by {source['file']}, {source['sha256']}"
        parts = [head, table(rows)]
        if timing:
            labels = {
                "seconds per epoch, mean": f"{timing['seconds_per_epoch_mean']:.2f}",
                "seconds per epoch, median": f"{timing['seconds_per_epoch_median']:.2f}",
                "images per second": f"{timing['images_per_second']:.1f}",
                "seconds of training in all": f"{timing['seconds_total']:.1f}",
            }
            parts.append(table(list(labels.items())))
        parts.append(test.by_class(facts["classes"]).rstrip())
        return "\n\n".join(parts) + "\n"


def _timing(history: list[dict[str, float]], images: int) -> dict[str, float]:
    seconds = [row["seconds"] for row in history]
    if not seconds:
        return {}
    return {
        "seconds_per_epoch_mean": statistics.mean(seconds),
        "seconds_per_epoch_median": statistics.median(seconds),
        "images_per_second": images / statistics.median(seconds),
        "seconds_total": sum(seconds),
    }


def unreadable(checkpoint: Path) -> InputError:
    """The error for a checkpoint that is damaged or belongs to another run."""
    return InputError(f"{checkpoint} cannot be read as this run's checkpoint.")


def new_folder(wanted: Path) -> Path:
    """Make a new folder: `wanted`, or else the first of `wanted`-2 to `wanted`-999 that is free.

    Raises:
        InputError: all these folders exist.
    """
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{wanted} and 998 more folders like it exist; choose another --out.")


@dataclass(frozen=True)
class Stored:
    """The content of a run folder.

    Args:
        run: the arguments of `Run`, from the report.
        facts: the whole report.
        history: the metrics of each epoch.
    """

    run: dict[str, Any]
    facts: dict[str, Any]
    history: list[dict[str, float]]


def read(folder: Path) -> Stored:
    """Read a run folder, to resume the run.

    Raises:
        InputError: `folder` is not a run folder, or a newer version of tinyconv wrote it.
    """
    try:
        facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        recipe = facts["recipe"] | {"augment": tuple(facts["recipe"]["augment"])}
        check_known(facts["recipe"], Recipe, folder)
        run = facts["run"] | {"recipe": Recipe(**recipe)}
        kinds = ((facts["images"], dict), (facts["classes"], list), (run["data"], str))
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
    return Stored(run, facts, history)


def check_known(stored: dict[str, Any], kind: Any, folder: Path) -> None:
    """Check that the dataclass `kind` has a field for each entry that a report stores of it.

    Raises:
        InputError: a newer version of tinyconv wrote the report.
    """
    if unknown := sorted(set(stored) - {field.name for field in fields(kind)}):
        raise InputError(
            f"{folder / 'report.json'} has {unknown[0]!r} in its {kind.__name__.lower()}, which "
            f"tinyconv {__version__} does not know; resume with the version that started the run."
        )


def _number(text: str) -> float | int:
    return int(text) if text.isdigit() else float(text)
