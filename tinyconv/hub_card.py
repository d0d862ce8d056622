"""The card of a run for the Hugging Face Hub: front matter, text and a mark."""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from tinyconv import registry, trained
from tinyconv.card import Subject, body, lineage, printable, test_name
from tinyconv.errors import InputError

PATHS = ("model", "data", "teacher")  # arguments of a run that may be paths
MARK = "\n<!-- Written by tinyconv card, {}. A changed card is not overwritten. -->\n"
_HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}  # names on the Hub


def read(folder: Path) -> Subject:
    """Read a run folder. The model is not opened.

    Raises:
        InputError: `folder` is not that of a run that has ended, or a file in it is damaged.
    """
    file = folder / "model.keras"
    for name in ("model.keras", "report.json", "history.csv"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a run folder, since it has no {name}.")
    report = trained.report(file)
    if "test" not in report:
        raise InputError(
            f"{folder / 'report.json'} has no test figures; finish the run first: "
            f"tinyconv train --resume {folder}."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            content = archive.read("config.json").decode()
        config = json.loads(content)["config"]
        first = next(layer for layer in config["layers"] if layer["class_name"] == "InputLayer")
        height, width = first["config"]["batch_shape"][1:3]
    except Exception as error:  # a damaged archive raises errors of many types
        raise InputError(f"{file} cannot be opened as a Keras model.") from error
    return Subject(config["name"], report, folder, (height, width), "tinyconv>" not in content)


def page(subject: Subject, address: str | None = None) -> str:
    """The card of a run, with front matter for the Hub.

    Args:
        subject: the run.
        address: the address of the model on the Hub, as hf://USER/NAME. Default: none yet.

    Raises:
        InputError: the report lacks a figure, or `history.csv` is damaged.
    """
    digest = trained.sha256(subject.folder / "model.keras")
    ships = digest in trained.shipped().values()
    where = address or "model.keras"
    usage = "import keras\n" + ("" if subject.stock else "import tinyconv\n")
    usage += f'\nmodel = keras.saving.load_model("{where}")'
    licence = (
        "The licence is MIT, as that of tinyconv."
        if ships
        else "This card names no licence: whoever publishes the model decides on it, and adds a "
        "line `license:` to the front matter."
    )
    try:
        for model in lineage(subject.report)[1:]:
            if weights := registry.weights(model.get("name", "")):
                licence += f" The licence of the weights `{model['name']}`: {weights.licence}."
        text = _front_matter(subject, ships) + body(subject, usage, licence)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{subject.folder / 'report.json'} or history.csv is damaged or of another version "
            f"of tinyconv ({type(error).__name__}: {error}); restore the files of the run."
        ) from error
    return text + MARK.format(_digest(text))


def existing(folder: Path) -> str | None:
    """The text of the README.md in `folder`; None if there is none.

    Raises:
        InputError: it cannot be read as text.
    """
    path = folder / "README.md"
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} is not a text in UTF-8; move it away.") from error


def is_own(text: str) -> bool:
    """Whether `text` is a card that `page` made and nobody changed."""
    start, found, _ = text.rpartition(MARK.partition("{")[0])
    return bool(found) and text == start + MARK.format(_digest(start))


def check_describes(text: str, folder: Path) -> None:
    """Check that a card has front matter, and is of the model in `folder` as far as it tells.

    Raises:
        InputError: it has no front matter, or names the sha256 of another model.
    """
    named = re.search("`model.keras`: sha256 `([0-9a-f]{64})`", text)
    fault = "" if text.startswith("---\n") else "has no front matter for the Hub"
    if named and named[1] != trained.sha256(folder / "model.keras"):
        fault = "describes another model.keras, as its sha256 tells"
    if fault:
        raise InputError(
            f"{folder / 'README.md'} {fault}; move it away, and write a new card: "
            f"tinyconv card {folder}."
        )


def shareable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without the paths of the machine: of a path, the last part remains."""
    kept = {k: v for k, v in report.items() if k not in ("command", "folder")}
    if "://" not in (file := kept.get("file", "://")):
        kept["file"] = _last(file)
    if isinstance(run := kept.get("run"), dict):
        paths = {k: v for k, v in run.items() if k in PATHS and v and not _is_name(k, v)}
        # "./" keeps a folder called cifar10 apart from CIFAR-10.
        named = {k: f"./{_last(v)}" if k == "data" else _last(v) for k, v in paths.items()}
        kept["run"] = run | named
    for source in ("started_from", "teacher"):
        if kept.get(source):
            kept[source] = shareable(kept[source])
    return kept


def _is_name(argument: str, value: str) -> bool:
    return _last(value) == value or (argument == "data" and trained.is_set(value))


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _front_matter(subject: Subject, ships: bool) -> str:
    """The YAML front matter. Strings are in JSON, which is YAML."""
    report, test = subject.report, subject.report["test"]
    data = report["run"]["data"]
    title = _json(f"accuracy on {test['images']:,} {test_name(report)} images")
    own = data.removeprefix("hf:").partition(":")[0] if data.startswith("hf:") else _HUB.get(data)
    datasets = f"datasets:\n- {own}\n" if own else ""
    return f"""\
---
library_name: keras
pipeline_tag: image-classification
{"license: mit" if ships else "# license: not chosen yet"}
tags:
- tinyconv
{datasets}metrics:
- accuracy
model-index:
- name: {_json(subject.name)}
  results:
  - task:
      type: image-classification
    dataset:
      name: {_json(trained.data_name(report))}
      type: {own or "custom"}
      split: {test_name(report)}
    metrics:
    - type: accuracy
      name: {title}
      value: {float(test["accuracy"])!r}
---

"""


def _json(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
