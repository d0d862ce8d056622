"""The console script `tinyconv`, and what all command lines share."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tinyconv import registry
from tinyconv.errors import InputError


def run(main: Callable[[], None]) -> None:
    """Call `main`; on bad input print its one sentence and exit with 2, on Ctrl-C with 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _check_backend()
        main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)


def _check_backend() -> None:
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in ("tensorflow", "jax"):
        raise InputError(f"KERAS_BACKEND is {name!r}; tinyconv runs on tensorflow or jax.")
    if importlib.util.find_spec(name) is None:
        raise InputError(f"{name} is not installed; pip install {name}, or set KERAS_BACKEND.")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tinyconv", description="Tiny image classifiers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("summary", help="the layers of a net, with sizes and MACs")
    command.add_argument("model", help="a net by name, or a .keras file")
    command.set_defaults(main=summary)

    command = commands.add_parser("evaluate", help="accuracy of a trained model, class by class")
    command.add_argument("model", type=Path, help="a .keras file")
    command.add_argument("--data", default="cifar10", help="as for train.py (cifar10)")
    command.set_defaults(main=evaluate)

    command = commands.add_parser("convert", help="weights from PyTorch to Keras and back")
    command.add_argument("net", help="a net by name")
    command.add_argument("source", type=Path, help="a .pt, .safetensors or .keras file")
    command.add_argument("target", type=Path, help="a .keras, .pt or .safetensors file")
    command.set_defaults(main=convert)
    return parser.parse_args(arguments)


def summary(args: argparse.Namespace) -> None:
    if not args.model.endswith(".keras"):
        registry.find(args.model)
    from tinyconv import report

    model = registry.open_model(Path(args.model)) if args.model.endswith(".keras") else None
    print(report.summary(model or registry.create_model(args.model)))


def evaluate(args: argparse.Namespace) -> None:
    model = registry.open_model(args.model)
    from tinyconv import data, report

    dataset = data.load(args.data, model.input_shape[1:3])
    classes = model.output_shape[-1]
    if classes != len(dataset.class_names):
        raise InputError(
            f"{args.model} has {classes} classes, but {args.data} has {len(dataset.class_names)}."
        )
    print(f"\n{report.evaluate(model, dataset.test).text(dataset.class_names)}")


def convert(args: argparse.Namespace) -> None:
    registry.find(args.net)
    from tinyconv import atomic, report, weights

    atomic.check_writable(args.target.parent)
    if args.target.suffix == ".keras":
        classes = weights.num_classes(args.net, weights.read(args.source))
        model = registry.create_model(args.net, classes, pretrained=args.source)
        with atomic.replacing(args.target) as partial:
            model.save(partial)
    else:
        model = registry.open_model(args.source)
        if model.name != args.net:
            raise InputError(f"{args.source} is a {model.name}, not a {args.net}.")
        weights.save_torch(model, args.target)
    print(f"{args.target}: {args.net}, {report.parameters(model):,} parameters")
    if args.target.suffix == ".keras":
        print(registry.find(args.net).preparation())


def main() -> None:
    """The console script."""

    def command() -> None:
        args = parse()
        args.main(args)

    run(command)
