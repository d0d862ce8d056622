"""Time tiny image classifiers on this machine: python timing.py --model cifar10_tiny"""

import argparse
import json
from pathlib import Path

from tinyconv import __version__, cli, originals, registry, terminal
from tinyconv.errors import InputError

PEERS = ("keras", "torch", "compiled")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", action="version", version=f"tinyconv {__version__}")
    add = parser.add_argument
    add("--model", nargs="+", default=["cifar10_tiny"], help="nets to time (cifar10_tiny)")
    add("-b", "--batch", type=int, nargs="+", default=[32, 128], help="images per step (32 128)")
    add("--runs", type=int, default=5, help="how often each figure is taken (5)")
    add("--compare", nargs="*", choices=PEERS, help="beside plain Keras, PyTorch (keras torch)")
    add("--out", type=Path, default=Path("images"), help="where timing.json and .png go (images)")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    peers = args.compare or () if args.compare != [] else ("keras", "torch")
    for name in args.model:
        registry.find(name)
        if {"torch", "compiled"} & {*peers}:
            originals.find(name)
    for flag, values in (("batch", args.batch), ("runs", [args.runs])):
        if min(values) < 1:
            raise InputError(f"--{flag} is {min(values)}; it must be at least 1.")
    from tinyconv import atomic, devices, timing

    atomic.check_writable(args.out)
    import keras

    total = timing.steps(args.model, args.runs, peers)
    progress = keras.utils.Progbar(total, unit_name="step", verbose=terminal.bars())
    timings = timing.measure(
        args.model, args.batch, args.runs, on_step=progress.update, peers=peers
    )
    machine = devices.machine()
    report = {"runs": args.runs, "machine": machine}
    report["nets"] = [t.as_dict() for t in timings]
    atomic.write_text(args.out / "timing.json", json.dumps(report, indent=2) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = ", ".join(
        [f"{machine['cores']} cores of {machine['processor']}", *machine["accelerators"]]
    )
    batches = " or ".join(map(str, args.batch))
    caption = f"{where}; {versions}; training by {batches} images, inference by 64; "
    caption += f"median and range of {args.runs} runs"
    timing.draw(timings, caption, args.out / "timing.png")
    print(f"\n{timing.table(timings)}\n")
    if peers:
        print(f"{timing.comparison(timings)}\n")
    print(caption)


if __name__ == "__mp_main__":  # a process that times a net imports this file anew
    terminal.prepare()
if __name__ == "__main__":
    cli.run(lambda: main(parse()))
