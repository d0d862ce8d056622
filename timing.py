"""Time tiny image classifiers on this machine: python timing.py --model cifar10_tiny"""

import argparse
import json
from pathlib import Path

from tinyconv import cli, originals, registry
from tinyconv.errors import InputError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", nargs="+", default=["cifar10_tiny"], help="nets to time (cifar10_tiny)")
    add("-b", "--batch", type=int, default=32, help="images per step (32)")
    add("--runs", type=int, default=5, help="how often each figure is taken (5)")
    add("--compare", action="store_true", help="time the originals in PyTorch, too")
    add("--out", type=Path, default=Path("images"), help="where timing.json and .png go (images)")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    for name in args.model:
        registry.find(name)
        if args.compare:
            originals.find(name)
    for flag in ("batch", "runs"):
        if getattr(args, flag) < 1:
            raise InputError(f"--{flag} is {getattr(args, flag)}; it must be at least 1.")
    from tinyconv import atomic, devices, timing

    atomic.check_writable(args.out)
    import keras

    progress = keras.utils.Progbar(args.runs, unit_name="run")
    timings = timing.measure(
        args.model, args.batch, args.runs, on_run=progress.update, compare=args.compare
    )
    machine = devices.machine()
    report = {"batch_size": args.batch, "runs": args.runs, "machine": machine}
    report["nets"] = [t.as_dict() for t in timings]
    atomic.write_text(args.out / "timing.json", json.dumps(report, indent=2) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = ", ".join(
        [f"{machine['cores']} cores of {machine['processor']}", *machine["accelerators"]]
    )
    caption = f"{where}; {versions}; batch {args.batch}, median and range of {args.runs} runs"
    timing.draw(timings, caption, args.out / "timing.png")
    print(f"\n{timing.table(timings)}\n\n{caption}")


if __name__ == "__main__":
    cli.run(lambda: main(parse()))
