"""Time nets on this machine: training, inference, the latency of one image."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyconv import registry, terminal
from tinyconv.errors import InputError
from tinyconv.timing import peers

EXAMPLES = """
  tinyconv time --model cifar10_tiny tiniest
  tinyconv time --model resnet20 --compare torch compiled
"""
DEFAULT_PEERS = ("keras", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", nargs="+", default=["cifar10_tiny"], help="nets to time (cifar10_tiny)")
    add("-b", "--batch", type=int, nargs="+", default=[32, 128], help="images per step (32 128)")
    add("--runs", type=int, default=5, help="number of measurements of each figure (5)")
    text = f"what to compare the nets with ({' '.join(DEFAULT_PEERS)})"
    add("--compare", nargs="*", choices=peers.names(), help=text)
    add("--out", type=Path, help="folder for timing.json and timing.png (neither is written)")


def main(args: argparse.Namespace) -> None:
    chosen = args.compare or () if args.compare != [] else DEFAULT_PEERS
    check(args, chosen)
    import keras

    from tinyconv import atomic, machine, timing
    from tinyconv.timing import picture, tables

    total = timing.steps(args.model, args.runs, chosen)
    progress = keras.utils.Progbar(total, unit_name="step", verbose=terminal.bars())
    timings = timing.measure(
        args.model, args.batch, args.runs, on_step=progress.update, peers=chosen
    )
    facts = machine.describe()
    caption = describe(facts, args.batch, args.runs)
    if args.out:
        report = {"runs": args.runs, "machine": facts, "nets": [t.as_dict() for t in timings]}
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
        if min(values) < 1:
            raise InputError(f"--{flag} is {min(values)}; it must be at least 1.")
    for peer in chosen:
        for name in args.model:
            peers.get(peer).check(name)
    if args.out:
        from tinyconv import atomic

        atomic.check_writable(args.out)


def describe(machine: dict[str, Any], batch_sizes: Sequence[int], runs: int) -> str:
    """A caption with the machine, the versions and the settings of the measurement."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = ", ".join(
        [f"{machine['cores']} cores of {machine['processor']}", *machine["accelerators"]]
    )
    batches = " or ".join(map(str, batch_sizes))
    caption = f"{where}; {versions}; training by {batches} images, inference by 64; "
    return caption + f"median and range of {runs} runs"
