"""Time nets on this machine: training, inference, the latency of one image."""

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tinyconv import registry, terminal
from tinyconv.errors import InputError
from tinyconv.timing import peers

EXAMPLES = """
  tinyconv time --model cifar10_tiny tiniest
  tinyconv time --model resnet20 --compare torch compiled-bf16 openvino
  tinyconv time --model resnet20 --compare keras litert --quick
  tinyconv time --model resnet20 --compare onnxruntime --batch
"""
DEFAULT_PEERS = ("keras", "torch")
FULL = 5, [32, 128], 1.0  # runs, batch sizes of training, seconds of a measurement
QUICK = 2, [32], 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", nargs="+", default=["cifar10_tiny"], help="nets to time (cifar10_tiny)")
    text = "images per step of training; without a number, only inference is timed (32 128)"
    add("-b", "--batch", type=int, nargs="*", help=text)
    add("--runs", type=int, help="number of measurements of each figure (5)")
    text = "a first look: 2 short measurements of each figure, training by 32 images"
    add("--quick", action="store_true", help=text)
    text = f"what to compare the nets with ({' '.join(DEFAULT_PEERS)})"
    add("--compare", nargs="*", choices=peers.names(), help=text)
    add("--out", type=Path, help="folder for timing.json and timing.png (neither is written)")


def main(args: argparse.Namespace) -> None:
    chosen = args.compare or () if args.compare != [] else DEFAULT_PEERS
    runs, batch_sizes, seconds = QUICK if args.quick else FULL
    args.runs = runs if args.runs is None else args.runs
    args.batch = batch_sizes if args.batch is None else args.batch
    check(args, chosen)
    libraries = filter(None, (peers.get(peer).library for peer in chosen))
    versions = {library: _version(library) for library in libraries}
    import keras

    from tinyconv import atomic, machine, timing
    from tinyconv.timing import picture, tables

    total = timing.steps(args.model, args.runs, chosen)
    progress = keras.utils.Progbar(total, unit_name="step", verbose=terminal.bars())
    timings = timing.measure(
        args.model, args.batch, args.runs, seconds, on_step=progress.update, peers=chosen
    )
    facts = machine.describe()
    facts["versions"] |= versions
    caption = describe(facts, args.batch, args.runs, args.quick)
    if args.out:
        report = {"runs": args.runs, "quick": args.quick, "machine": facts}
        report["nets"] = [t.as_dict() for t in timings]
        atomic.write_text(args.out / "timing.json", json.dumps(report, indent=2) + "\n")
        picture.draw(timings, caption, args.out / "timing.png")
    print(f"\n{tables.figures(timings)}\n")
    if chosen:
        print(f"{tables.comparison(timings)}\n")
    print(caption)


def check(args: argparse.Namespace, chosen: Sequence[str]) -> None:
    """Check that all nets and peers can be timed, and that the results can be written.

    Raises:
        InputError: an argument is wrong.
    """
    for name in args.model:
        registry.get(name)
    for flag, values in (("batch", args.batch), ("runs", [args.runs])):
        if min(values, default=1) < 1:
            raise InputError(f"--{flag} is {min(values)}; it must be at least 1.")
    for peer in chosen:
        for name in args.model:
            peers.get(peer).check(name)
    if args.out:
        from tinyconv import atomic

        atomic.check_writable(args.out)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # another package has the module, such as onnxruntime-gpu
        return "of unknown version"


def describe(machine: dict[str, Any], batch_sizes: Sequence[int], runs: int, quick: bool) -> str:
    """A caption with the machine, the versions and the settings of the measurement."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = ", ".join(
        [f"{machine['cores']} cores of {machine['processor']}", *machine["accelerators"]]
    )
    training = f"training by {' or '.join(map(str, batch_sizes))} images, " if batch_sizes else ""
    kind = "short runs (--quick), for a first look only" if quick else "runs"
    return f"{where}; {versions}; {training}inference by 64; median and range of {runs} {kind}"
