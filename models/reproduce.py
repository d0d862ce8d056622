"""Trains a model that ships again, from random weights, with the settings in its report.

    python models/reproduce.py NET [--out DIR] [--tpu] [--steps N]

The teacher of a model is trained first. The same command resumes a run that was interrupted, and
leaves a complete run as it is. `--steps 2` rehearses everything with one epoch of two steps.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv import cli, data, registry, trained
from tinyconv.errors import InputError
from tinyconv.training import run_folder
from tinyconv.training.train import resume, train

SETTINGS = ("recipe", "epochs", "batch_size", "augment", "seed", "holdout", "mixed")
NEWER = ("class_weights", "early_stop", "keep")  # settings that older reports do not have


def reproduce(net: str, out: Path, tpu: str | None = None, steps: int | None = None) -> Path:
    """Train the model that ships for `net` again, after its teacher.

    Args:
        net: the net.
        out: the folder of the run folders.
        tpu: as for `tinyconv.train`.
        steps: rehearse with one epoch of this number of steps. Default: the whole training.

    Returns:
        The run folder.

    Raises:
        InputError: no model ships for `net`, or it did not start from random weights.
    """
    shipped = run_folder.read(trained.path(net).parent)
    if shipped.facts.get("started_from"):
        raise InputError(f"The model that ships for {net} did not start from random weights.")
    options: dict[str, Any] = {name: shipped.run[name] for name in SETTINGS}
    options |= {name: shipped.run[name] for name in NEWER if name in shipped.run}
    options |= {"model": net, "data": shipped.run["data"], "tpu": tpu}
    if steps is not None:
        options |= {"data": _few_images(options, steps, out), "epochs": 1}
    if teacher := shipped.run.get("teacher"):
        options["teacher"] = reproduce(registry.get(teacher).name, out, tpu, steps)
    begun = _begun(options, out)
    if begun is None:
        return train(**options, out=out)
    complete = run_folder.read(begun).facts["status"] == "complete"
    return begun if complete else resume(begun)


def _few_images(options: dict[str, Any], steps: int, out: Path) -> str:
    """Write the first images of the data for `steps` steps, and return the path."""
    dataset = data.load(options["data"], (32, 32))
    count = steps * options["batch_size"]
    path = out / f"{dataset.name}-{count}.npz"
    out.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        arrays |= {f"x_{part}": split.images[:count], f"y_{part}": split.labels[:count]}
    np.savez(path, **arrays, class_names=np.array(dataset.class_names))
    return str(path.absolute())


def _begun(options: dict[str, Any], out: Path) -> Path | None:
    """The newest run folder with these settings and at least one epoch."""
    for checkpoint in sorted(out.glob(f"*/{run_folder.CHECKPOINT}"), reverse=True):
        stored = run_folder.read(checkpoint.parent).run
        compared = (*SETTINGS, "model", "data", *(set(NEWER) & set(options)))
        if all(stored[key] == options[key] for key in compared):
            return checkpoint.parent
    return None


def main(args: argparse.Namespace) -> None:
    folder = reproduce(args.net, args.out, args.tpu, args.steps)
    found = json.loads((folder / run_folder.REPORT).read_text(encoding="utf-8"))
    shipped = trained.report(trained.path(args.net))
    before, now = (report["test"]["accuracy"] for report in (shipped, found))
    print(f"Test accuracy of the model that ships {before:.2%}, of {folder} {now:.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a model that ships again.")
    parser.add_argument("net", help=", ".join(sorted(trained.shipped())))
    parser.add_argument("--out", type=Path, default=Path("models/again"), help="(models/again)")
    parser.add_argument("--tpu", nargs="?", const="local", help="a TPU, as for tinyconv train")
    parser.add_argument("--steps", type=int, help="rehearse with one epoch of this many steps")
    arguments = parser.parse_args()
    cli.run(lambda: main(arguments))
