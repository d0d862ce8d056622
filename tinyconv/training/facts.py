"""The facts of a run for its report."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyconv import machine, report
from tinyconv.training.run_folder import RunFolder
from tinyconv.training.trainer import Trainer


def folder_of(
    trainer: Trainer, path: Path, source: dict[str, Any] | None, history: list[dict[str, float]]
) -> RunFolder:
    """The writer of the run folder at `path`, with the facts of the run.

    Args:
        trainer: the trainer of the run.
        path: the folder.
        source: the origin of the model that the run started from, if it started from a model.
        history: the metrics of each epoch of the run so far.
    """
    run, dataset, devices = trainer.run, trainer.dataset, trainer.devices
    facts = {
        "run": asdict(run) | {"recipe": run.recipe.name},
        "recipe": asdict(run.recipe),
        "command": " ".join(sys.argv),
        "folder": str(path.absolute()),
        "started_from": source,
        "teacher": trainer.teacher and trainer.teacher.origin,
        "classes": list(dataset.class_names),
        "images": dataset.counts(),
        "class_weights": trainer.class_weights
        and dict(zip(dataset.class_names, trainer.class_weights, strict=True)),
        "validation": "holdout" if dataset.holdout else dataset.test_name,
        "parameters": report.parameters(trainer.net),
        "macs": report.macs(trainer.net),
        "devices": {"kind": devices.kind, "count": devices.count, "hosts": devices.hosts},
        "machine": machine.describe(),
    }
    return RunFolder(
        path,
        title=f"{trainer.net.name} on {dataset.name}",
        test_name=dataset.test_name,
        facts=facts,
        history=history,
        writes=devices.rank == 0,
    )
