"""Writes the cards and checksums of the models that ship, and two tables of nets.

    python models/cards.py [--check]

To ship a model, copy its run folder to models/NAME, where NAME is the name of the net, and run this
script. All figures are from report.json, images/timing.json and `tinyconv.registry`. A table is
written between its two markers in the README or in a page of docs/. With `--check`, the script
writes nothing and fails if a file would change.
"""

import argparse
import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

from tinyconv import atomic, cli, optimizers, recipes, registry, trained
from tinyconv.errors import InputError
from tinyconv.facts import Accuracy

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
README = ROOT / "README.md"
FILES = ("model.keras", "report.json", "history.csv", "report.txt")


def shipped() -> dict[str, dict]:
    """A dict from each net with a folder in models/ to the report of its run.

    Raises:
        InputError: a file is missing, or the report is of another net or of an unfinished run.
    """
    reports = {}
    for folder in sorted(path for path in MODELS.iterdir() if path.name in registry.NETS):
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise InputError(f"{folder} has no {missing[0]}; it must be a whole run folder.")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        net = registry.get(folder.name)
        own_classes = len(report["classes"]) == net.num_classes
        if own_classes and (report["parameters"], report["macs"]) != (net.parameters, net.macs):
            raise InputError(f"{folder} is the run of another net than {net.name}.")
        if "test" not in report:
            raise InputError(f"{folder} has no test figures; its run must have ended.")
        reports[net.name] = report
    return reports


def checksums(reports: dict[str, dict]) -> str:
    """The lines of a file for `sha256sum --check`."""
    files = [f"{name}/model.keras" for name in reports]
    return "".join(f"{trained.sha256(MODELS / file)}  {file}\n" for file in files)


def strays(name: str, report: dict) -> str:
    """A sentence on the first epochs, if their learning rates are from a run of another length."""
    run, recipe = report["run"], recipes.Recipe(**report["recipe"])
    steps = math.ceil(report["images"]["train"] / run["batch_size"])
    optimizer = optimizers.build(recipe, steps * run["epochs"])
    with (MODELS / name / "history.csv").open(encoding="utf-8") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    last = 0
    for epoch, rate in enumerate(rates, 1):
        optimizer.iterations.assign(epoch * steps)
        if abs(rate - float(optimizer.learning_rate)) > 0.01 * recipe.learning_rate:
            last = epoch
    sentence = f" The first {last} epochs had the learning rates of a run of another length."
    return sentence if last else ""


def line(report: dict) -> list[dict]:
    """The run, the run of the model that it started from, and so on, newest first."""
    before = report.get("started_from")
    return [report, *line(before)] if before else [report]


def past(report: dict) -> str:
    """Sentences on the models that a run and the runs before it started from."""
    sentences = []
    for model in line(report)[1:]:
        known = "of unknown training"
        if "run" in model:
            run = model["run"]
            known = (
                f"of {model['epochs']} epochs on {trained.data_name(model)} by `{run['recipe']}`"
            )
        start = "That model" if sentences else "The run"
        sentences.append(f" {start} started from a model {known} (sha256 `{model['sha256']}`).")
    return "".join(sentences)


def card(name: str, report: dict) -> str:
    """The model card of a net, in Markdown."""
    net, run, recipe = registry.get(name), report["run"], report["recipe"]
    classes, cores = report["classes"], report["machine"]["cores"]
    by_class = {label: report["test_by_class"][label] for label in classes}
    weakest = min(classes, key=lambda label: by_class[label]["recall"])
    augment = ", ".join(recipe["augment"]) if run["augment"] else "none"
    versions = ", ".join(f"{k} {v}" for k, v in report["machine"]["versions"].items())
    short = report["epochs"] < recipe["epochs"]
    started = past(report)
    figures = "\n".join(
        f"| {part} | {report[part]['images']:,} | {report[part]['accuracy']:.2%} | "
        f"{report[part]['top5']:.2%} | {report[part]['loss']:.4f} |"
        for part in ("train", "test")
    )
    rows = "\n".join(
        f"| {label} | {f['precision']:.3f} | {f['recall']:.3f} | {f['f1-score']:.3f} | "
        f"{f['support']:,.0f} |"
        for label, f in by_class.items()
    )
    height, width, _ = net.input_shape
    return f"""\
# {name}, trained on {trained.data_name(report)}

This model classifies {report["test"]["accuracy"]:.2%} of {report["test"]["images"]:,} test images \
correctly. It has {report["parameters"]:,} parameters and needs {report["macs"] / 1e6:.2f} M \
multiply-adds per image.

```python
import keras
import tinyconv

model = tinyconv.create_model("{name}", pretrained=True)
model = keras.models.load_model("models/{name}/model.keras")  # without tinyconv
```

- **Input**: raw RGB in 0..255, {height}x{width} pixels, shape (batch, {height}, {width}, 3), any \
integer or float type.
- **Output**: logits of {len(classes)} classes: {", ".join(classes)}.
- **Net**: rebuilt from {net.source} (licence of the source: {net.licence}).

## Training

- **Data**: {trained.data_name(report)}, {report["images"]["train"]:,} training images. Each epoch \
printed the accuracy on the {report["validation"]} images. The model is that of the last epoch.
- **Recipe**: `{recipe["name"]}`, from {recipe["source"]}: {recipe["optimizer"]}, learning rate \
{recipe["learning_rate"]}, batch size {run["batch_size"]}, augmentation: {augment}.
- **Length**: {report["epochs"]} epochs\
{f" of the recipe's {recipe['epochs']}" if short else ""}, \
{report["timing"]["seconds_total"] / 3600:.1f} hours.{strays(name, report)}{started} \
**Seed**: {run["seed"]}.
- **Machine**: {cores} CPU core{"s" * (cores > 1)} of {report["machine"]["processor"]}\
{"".join(f", {kind}" for kind in report["machine"]["accelerators"])}; {versions}.
- `history.csv` has one row per epoch. `report.json` has every figure to the last digit.

## Accuracy

| images | number | accuracy | top-5 | loss |
|---|---|---|---|---|
{figures}

On the test images, per class:

| class | precision | recall | F1 | images |
|---|---|---|---|---|
{rows}

## Limits

- The model knows these {len(classes)} classes only. It assigns one of them to every image.
- The class *{weakest}* has the lowest recall: {by_class[weakest]["recall"]:.1%}.
- The training images have {height}x{width} pixels. A photograph must be resized to this size and \
loses small details.
- The softmax of the logits was not calibrated.
- The figures are of one run with one seed\
{", which started from a trained model" if started else ""}.\
{" The run had fewer epochs than its recipe." if short else ""}

## Licence and checksum

The licence is MIT, as that of tinyconv. {_DATA.get(run["data"], "")}

`model.keras`: sha256 `{trained.sha256(MODELS / name / "model.keras")}`
"""


_CIFAR = (
    "The training images are from [{}](https://www.cs.toronto.edu/~kriz/cifar.html). Please cite "
    "Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009."
)
_DATA = {"cifar10": _CIFAR.format("CIFAR-10"), "cifar100": _CIFAR.format("CIFAR-100")}


def published(accuracies: list[Accuracy]) -> str:
    """Accuracies as text, each with its number of epochs if that is known."""
    first, *others = (
        f"{accuracy.percent:g}%" + (f" after {accuracy.epochs} epochs" if accuracy.epochs else "")
        for accuracy in accuracies
    )
    return ", ".join([first, *(text.removesuffix(" epochs") for text in others)])


def nets(reports: dict[str, dict], page: Path = README) -> str:
    """The table of the nets for CIFAR, with links relative to `page`, in Markdown."""
    timing = json.loads((ROOT / "images" / "timing.json").read_text(encoding="utf-8"))
    ours = (net for net in timing["nets"] if net.get("kind", "tinyconv") == "tinyconv")
    speeds = {net["model"]: net["inference_median"] for net in ours}
    rows = [
        "| net | parameters | multiply-adds | weights | images/s | CIFAR-10 test accuracy, as "
        "published | trained here, and shipped |",
        "|---|---|---|---|---|---|---|",
    ]
    folder = Path(os.path.relpath(MODELS, page.parent)).as_posix()
    for name, net in registry.NETS.items():
        accuracies = net.accuracies("cifar10")
        if not accuracies:
            continue
        ours = "-"
        if name in reports:
            report = reports[name]
            accuracy = report["test"]["accuracy"]
            epochs = " + ".join(str(run.get("epochs", "?")) for run in reversed(line(report)))
            ours = f"[{accuracy:.2%}]({folder}/{name}/README.md) after {epochs} epochs"
            ours += "" if report["run"]["data"] == "cifar10" else f" on {trained.data_name(report)}"
        rows.append(
            f"| `{name}` | {net.parameters:,} | {net.macs / 1e6:.2f} M | "
            f"{4 * net.parameters / 1000:,.0f} KB | "
            f"{f'{speeds[name]:,.0f}' if name in speeds else '-'} | {published(accuracies)} | "
            f"{ours} |"
        )
    return "\n".join(rows)


def timm_nets(reports: dict[str, dict], page: Path = README) -> str:
    """The table of timm's nets, in Markdown. No timm net ships trained."""
    rows = [
        "| net | parameters | multiply-adds | ImageNet top-1 at 160x160, 192x192, as published |",
        "|---|---|---|---|",
    ]
    for name, net in registry.NETS.items():
        if accuracies := net.accuracies("imagenet"):
            texts = ", ".join(f"{accuracy.percent:.2f}%" for accuracy in accuracies)
            rows.append(f"| `{name}` | {net.parameters:,} | {net.macs / 1e6:.2f} M | {texts} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[dict[str, dict], Path], str]] = {"nets": nets, "timm": timm_nets}


def pages(reports: dict[str, dict]) -> dict[Path, str]:
    """The new text of the README and of each page of docs/ that has a table.

    Raises:
        InputError: the markers of a table are missing or occur more than once.
    """
    files = [README, *sorted((ROOT / "docs").glob("*.md"))]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    changed = {}
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: models/cards.py -->", f"<!-- /{name} -->"
        places = [file for file in files for _ in range(texts[file].count(start))]
        if len(places) != 1 or texts[places[0]].count(end) != 1:
            raise InputError(
                f"{README} or a page of docs/ needs one line {start} and one {end} around the "
                "table of nets."
            )
        (page,) = places
        before, after = texts[page].split(start)[0], texts[page].split(end)[1]
        texts[page] = f"{before}{start}\n{table(reports, page)}\n{end}{after}"
        changed[page] = texts[page]
    return changed


def contents() -> dict[Path, str]:
    """The new text of every file that this script writes."""
    reports = shipped()
    files = {MODELS / name / "README.md": card(name, report) for name, report in reports.items()}
    return files | {MODELS / "SHA256SUMS": checksums(reports)} | pages(reports)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cards, checksums and the tables of nets.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args(arguments).check
    for path, text in contents().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise InputError(f"{path.relative_to(ROOT)} is stale: run python models/cards.py.")
        atomic.write_text(path, text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    cli.run(main)
