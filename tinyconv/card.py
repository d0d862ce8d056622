"""The text of a model card, with the figures of the report of a run."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyconv import recipes, registry, trained

SHOWN = 20  # classes; of more classes, a card lists this many
AVERAGES = ("accuracy", "macro avg", "weighted avg")  # entries of a report beside the classes

_CIFAR = (
    "The training images are from [{}](https://www.cs.toronto.edu/~kriz/cifar.html). Please cite "
    "Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009."
)
_DATA = {"cifar10": _CIFAR.format("CIFAR-10"), "cifar100": _CIFAR.format("CIFAR-100")}


@dataclass(frozen=True)
class Subject:
    """A run and its model.

    Args:
        name: the name of the model.
        report: the content of `report.json`.
        folder: the run folder.
        input_shape: (height, width) of the images.
        stock: whether Keras opens the model without tinyconv.
    """

    name: str
    report: dict[str, Any]
    folder: Path
    input_shape: tuple[int, int]
    stock: bool = True


def body(subject: Subject, usage: str, licence: str) -> str:
    """The text of a card.

    Args:
        subject: the run.
        usage: lines of Python that open the model.
        licence: sentences on the licence.
    """
    report, (height, width) = subject.report, subject.input_shape
    part, classes = test_name(report), report["classes"]
    net = registry.NETS.get(subject.name)
    origin = (
        f"rebuilt from {net.source} (licence of the source: {net.licence})."
        if net
        else f"`{_plain(subject.name)}`, which is not a net of tinyconv."
    )
    return f"""\
# {_plain(subject.name)}, trained on {_plain(trained.data_name(report))}

This model classifies {report["test"]["accuracy"]:.2%} of {report["test"]["images"]:,} {part} \
images correctly. It has {report["parameters"]:,} parameters and needs \
{report["macs"] / 1e6:.2f} M multiply-adds per image.

```python
{usage}
```

- **Input**: raw RGB in 0..255, {height}x{width} pixels, shape (batch, {height}, {width}, 3), any \
integer or float type.
- **Output**: logits of {len(classes)} classes: {_listed(classes)}.
- **Net**: {origin}

## Training

{_training(subject)}

## Accuracy

{_accuracy(report)}

## Limits

{_limits(subject)}

## Licence and checksum

{f"{licence} {_DATA.get(report['run']['data'], '')}".rstrip()}

`model.keras`: sha256 `{trained.sha256(subject.folder / "model.keras")}`
"""


def lineage(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The run, the run of the model that it started from, and so on, newest first."""
    before = report.get("started_from")
    return [report, *lineage(before)] if before else [report]


def _training(subject: Subject) -> str:
    report, run, recipe = subject.report, subject.report["run"], subject.report["recipe"]
    machine = report["machine"]
    names = [*recipe["augment"], *(["cutmix"] if recipe.get("cutmix") else [])]
    augment = ", ".join(names) if run["augment"] else "none"
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    short = f" of the recipe's {recipe['epochs']}" if _is_short(report) else ""
    taught = _teacher(report)
    kinds = "".join(f", {kind}" for kind in machine["accelerators"])
    return f"""\
- **Data**: {_plain(trained.data_name(report))}, {report["images"]["train"]:,} training images. \
Each epoch printed the accuracy on the {report["validation"]} images. {_kept(report)}
- **Recipe**: `{recipe["name"]}`, from {recipe["source"]}: {recipe["optimizer"]}, learning rate \
{recipe["learning_rate"]}, batch size {run["batch_size"]}{_loss(report)}, \
augmentation: {augment}.{taught}
- **Length**: {report["epochs"]} epochs{short}, \
{report["timing"]["seconds_total"] / 3600:.1f} hours.{_strays(subject)}{_past(report)} \
**Seed**: {run["seed"]}.
- **Machine**: {machine["cores"]} CPU core{"s" * (machine["cores"] > 1)} of \
{machine["processor"]}{kinds}; {versions}.
- `history.csv` has one row per epoch. `report.json` has every figure to the last digit."""


def _kept(report: dict[str, Any]) -> str:
    """Sentences on the epoch of the model, and on an early stop."""
    if report["run"].get("keep", "last") == "last":
        kept = "The model is that of the last epoch."
    else:
        kept = f"The model is that of epoch {report['kept_epoch']}, whose accuracy was the highest."
    stopped = report["run"].get("early_stop") and report["epochs"] < report["run"]["epochs"]
    return kept + (f" The training stopped because {report['stopped']}." if stopped else "")


def _loss(report: dict[str, Any]) -> str:
    """The settings of the loss that are not those of the plain cross-entropy, as a list."""
    names = ("label_smoothing", "focal_gamma")
    recipe = report["recipe"]
    parts = [f"{name.replace('_', ' ')} {recipe[name]}" for name in names if recipe.get(name)]
    if weights := report["run"].get("class_weights"):
        parts.append(f"{weights} class weights")
    return "".join(f", {part}" for part in parts)


def _teacher(report: dict[str, Any]) -> str:
    """A bullet on the teacher, if the run had a teacher."""
    source, recipe = report.get("teacher"), report["recipe"]
    if not source:
        return ""
    net = f"{_plain(Path(source['run']['model']).name)}, " if "run" in source else ""
    return f"""
- **Teacher**: {net}{_described(source)} (sha256 `{source["sha256"]}`). Its outputs have a share \
of {recipe["teacher_weight"]} in the loss, at temperature {recipe["temperature"]}."""


def _strays(subject: Subject) -> str:
    """A sentence on the first epochs, if their learning rates are from a run of another length."""
    from tinyconv import optimizers

    report, run = subject.report, subject.report["run"]
    recipe, devices = recipes.Recipe(**report["recipe"]), report.get("devices", {})
    whole = recipe.drop_remainder or devices.get("kind") == "tpu" or devices.get("count", 1) > 1
    steps = (math.floor if whole else math.ceil)(report["images"]["train"] / run["batch_size"])
    optimizer = optimizers.build(recipe, steps * run["epochs"])
    with (subject.folder / "history.csv").open(encoding="utf-8") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    last = 0
    for epoch, rate in enumerate(rates, 1):
        optimizer.iterations.assign(epoch * steps)
        if abs(rate - float(optimizer.learning_rate)) > 0.01 * recipe.learning_rate:
            last = epoch
    sentence = f" The first {last} epochs had the learning rates of a run of another length."
    return sentence if last else ""


def _past(report: dict[str, Any]) -> str:
    """Sentences on the models that a run and the runs before it started from."""
    sentences: list[str] = []
    for model in lineage(report)[1:]:
        start = "That model" if sentences else "The run"
        sentences.append(f" {start} started from {_described(model)} (sha256 `{model['sha256']}`).")
    return "".join(sentences)


def _described(model: dict[str, Any]) -> str:
    """What is known of a model, given by its `tinyconv.trained.origin`."""
    if "name" in model:
        return f"the published weights `{model['name']}`"
    if "run" in model:
        name, recipe = _plain(trained.data_name(model)), model["run"]["recipe"]
        return f"a model of {model['epochs']} epochs on {name} by `{recipe}`"
    return "a model of unknown training"


def _accuracy(report: dict[str, Any]) -> str:
    figures = "\n".join(
        f"| {name} | {report[part]['images']:,} | {report[part]['accuracy']:.2%} | "
        f"{report[part]['top5']:.2%} | {report[part]['loss']:.4f} |"
        for part, name in (("train", "train"), ("test", test_name(report)))
    )
    every = _by_class(report)
    labels = list(every) if len(every) <= SHOWN else _weakest(every)[:SHOWN]
    rows = "\n".join(
        f"| {_plain(label)} | {f['precision']:.3f} | {f['recall']:.3f} | {f['f1-score']:.3f} | "
        f"{f['support']:,.0f} |"
        for label, f in ((label, every[label]) for label in labels)
    )
    few = "" if len(labels) == len(every) else f" for the {SHOWN} classes of lowest recall"
    return f"""\
| images | number | accuracy | top-5 | loss |
|---|---|---|---|---|
{figures}

On the {test_name(report)} images, per class{few}:

| class | precision | recall | F1 | images |
|---|---|---|---|---|
{rows}"""


def _limits(subject: Subject) -> str:
    report, (height, width) = subject.report, subject.input_shape
    every = _by_class(report)
    weakest = _weakest(every)[0]
    started = ", which started from a trained model" if report.get("started_from") else ""
    calibrated = "The softmax of the logits was not calibrated."
    if temperature := report.get("temperature"):
        calibrated = (
            f"The logits are divided by the temperature {temperature:.3f}, which was fitted to "
            "held-out images."
        )
    short = " The run had fewer epochs than its recipe." if _is_short(report) else ""
    return f"""\
- The model knows these {len(report["classes"])} classes only. It assigns one of them to every \
image.
- The class *{_plain(weakest)}* has the lowest recall: {every[weakest]["recall"]:.1%}.
- The training images have {height}x{width} pixels. A photograph must be resized to this size and \
loses small details.
- {calibrated}
- The figures are of one run with one seed{started}.{short}"""


def _by_class(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of each class. Those of a class with the name of an average are not known."""
    labels = (label for label in report["classes"] if label not in AVERAGES)
    return {label: report["test_by_class"][label] for label in labels}


def _weakest(by_class: dict[str, dict[str, float]]) -> list[str]:
    """The classes in the order of their recall, the lowest first."""
    return sorted(by_class, key=lambda label: by_class[label]["recall"])


def test_name(report: dict[str, Any]) -> str:
    """The name of the split that the test figures are of."""
    return "val" if report["validation"] == "val" else "test"


def _is_short(report: dict[str, Any]) -> bool:
    return report["epochs"] < report["recipe"]["epochs"]


def _listed(classes: list[str]) -> str:
    more = f" and {len(classes) - SHOWN} more, in `report.json`" if len(classes) > SHOWN else ""
    return ", ".join(map(_plain, classes[:SHOWN])) + more


def _plain(name: str) -> str:
    """A name as text in Markdown, on one line."""
    return re.sub(r"([|*`<\[\\])", r"\\\1", printable(name))


def printable(text: str) -> str:
    """A text on one line, without control characters."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())
