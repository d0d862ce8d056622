"""Writes the cards and checksums of the models that ship, and two tables of nets.

    python models/cards.py [--check]

To ship a model, copy its run folder to models/NAME, where NAME is the name of the net, and run this
script. All figures are from report.json, images/timing.json and `tinyconv.registry`. A table is
written between its two markers in the README or in a page of docs/. With `--check`, the script
writes nothing and fails if a file would change.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from tinyconv import atomic, cli, registry, trained
from tinyconv import card as cards
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


def card(name: str, report: dict) -> str:
    """The model card of a net, in Markdown."""
    height, width, _ = registry.get(name).input_shape
    usage = f"""\
import keras
import tinyconv

model = tinyconv.create_model("{name}", pretrained=True)
model = keras.models.load_model("models/{name}/model.keras")  # without tinyconv"""
    subject = cards.Subject(name, report, MODELS / name, (height, width))
    return cards.body(subject, usage, "The licence is MIT, as that of tinyconv.")


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
            epochs = " + ".join(
                str(run.get("epochs", "?")) for run in reversed(cards.lineage(report))
            )
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
