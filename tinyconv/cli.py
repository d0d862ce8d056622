"""The console script `tinyconv`, and what all command lines share."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyconv import __version__, registry, terminal
from tinyconv.errors import InputError, unknown

SETTINGS = {  # of keras.json, with the values that tinyconv and Keras accept, the default first
    "floatx": ("float32",),
    "image_data_format": ("channels_last", "channels_first"),
}


def run(main: Callable[[], None]) -> None:
    """Call `main`; on bad input print its one sentence and exit with 2, on Ctrl-C with 130."""
    terminal.prepare()
    try:
        _check_keras()
        main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command line the flag `--version`."""
    parser.add_argument("--version", action="version", version=f"tinyconv {__version__}")


def _check_keras() -> None:
    """Make sure that Keras is set to what tinyconv can do, before the slow import of Keras."""
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Keras uses its defaults then
        settings = {}
    if not isinstance(settings, dict):
        raise InputError(f"{path} is not a JSON object; remove it or correct it.")
    given = os.environ.get("KERAS_BACKEND")
    name = given or settings.get("backend", "tensorflow")
    where = "KERAS_BACKEND" if given else f"The backend in {path}"
    if name not in ("tensorflow", "jax"):
        raise InputError(f"{where} is {name!r}; tinyconv runs on tensorflow or jax.")
    if importlib.util.find_spec(name) is None:
        raise InputError(
            f"{where} is {name!r}, which is not installed: pip install {name}, or set another."
        )
    for key, right in SETTINGS.items():
        if (value := settings.get(key, right[0])) not in right:
            raise InputError(f"{key} in {path} is {value!r}; it must be {' or '.join(right)}.")


def add_data_range(add: Callable) -> None:
    add(
        "--data-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="values of black and white in an .npz (0 255)",
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tinyconv", description="Tiny image classifiers.")
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    trained = "a .keras file, or a net that ships trained"

    command = commands.add_parser("list", help="the nets, and which of them ship trained")
    command.add_argument("pattern", nargs="?", default="*", help="of their names, as in a shell")
    command.set_defaults(main=list_nets)

    command = commands.add_parser("summary", help="the layers of a net, with sizes and MACs")
    command.add_argument("model", help="a net by name, or a .keras file")
    command.set_defaults(main=summary)

    command = commands.add_parser("predict", help="what images show: the five likeliest classes")
    command.add_argument("model", help=trained)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder or a glob")
    command.add_argument("--json", action="store_true", help="a line of JSON for each image")
    command.set_defaults(main=predict)

    command = commands.add_parser("evaluate", help="accuracy of a trained model, class by class")
    command.add_argument("model", help=trained)
    command.add_argument("--data", help="as for train.py (what the model was trained on)")
    add_data_range(command.add_argument)
    command.set_defaults(main=evaluate)

    command = commands.add_parser("export", help="a trained model for phones, browsers and C++")
    command.add_argument("model", help=trained)
    command.add_argument("--to", required=True, help="litert, litert-int8, onnx or savedmodel")
    command.add_argument("--out", type=Path, help="the file, or the folder of a savedmodel")
    command.add_argument("--data", help="images to check with, as for train.py (the model's own)")
    add_data_range(command.add_argument)
    command.add_argument("--images", type=int, default=1000, help="how many of them (1000)")
    command.set_defaults(main=export)

    command = commands.add_parser("convert", help="weights from PyTorch to Keras and back")
    command.add_argument("net", help="a net by name")
    command.add_argument(
        "source", type=Path, help="a .pt or .safetensors file or its like, or a .keras"
    )
    command.add_argument("target", type=Path, help="a .keras file, or a .pt or .safetensors file")
    command.set_defaults(main=convert)
    return parser.parse_args(arguments)


def list_nets(args: argparse.Namespace) -> None:
    from tinyconv import trained
    from tinyconv.table import table

    rows: list[tuple[str, ...]] = [
        ("net", "parameters", "MACs, M", "input", "ships: test accuracy", "on", "size, KB")
    ]
    shipped = trained.shipped()
    for name in registry.list_models(args.pattern):
        net = registry.find(name)
        figures = ("-", "-", "-")
        if name in shipped:
            file = trained.path(name)
            report = trained.report(file)
            accuracy, size = report["test"]["accuracy"], file.stat().st_size
            figures = (f"{accuracy:.2%}", trained.data_name(report), f"{size / 1000:.0f}")
        shape = "x".join(map(str, net.input_shape))
        rows.append((name, f"{net.parameters:,}", f"{net.macs / 1e6:.2f}", shape, *figures))
    if len(rows) == 1:
        raise unknown("net", args.pattern, registry.NETS)
    print(table(rows))


def summary(args: argparse.Namespace) -> None:
    if not args.model.endswith(".keras"):
        registry.find(args.model)
    from tinyconv import report

    model = registry.open_model(Path(args.model)) if args.model.endswith(".keras") else None
    print(report.summary(model or registry.create_model(args.model)))


def predict(args: argparse.Namespace) -> None:
    from tinyconv import trained

    opened = trained.open_model(args.model)
    names = opened.class_names
    if names is None:
        names = tuple(map(str, range(opened.model.output_shape[-1])))
        print(
            "No report.json beside the model names its classes; they are numbers.", file=sys.stderr
        )
    from tqdm import tqdm

    from tinyconv import data, predict

    files = predict.find(args.images)
    unread = 0
    progress = tqdm(
        predict.answers(opened.model, files, opened.probabilities),
        total=len(files),
        unit="image",
        leave=False,
        disable=None if len(files) > predict.BATCH else True,  # None: unless it is no terminal
    )
    for file, answer in progress:
        record: dict[str, Any] = {"image": data.text(file)}
        if isinstance(answer, InputError):
            unread += 1
            record["error"] = str(answer)
            progress.write(f"error: {' '.join(str(answer).split())}", file=sys.stderr)
        else:
            record["top"] = predict.best(answer, names)
        if args.json:
            progress.write(json.dumps(record))
        elif "top" in record:
            progress.write(predict.text(file, record["top"]))
    if unread:
        raise InputError(f"{unread} of {len(files)} images have no answer.")


def _data_range(args: argparse.Namespace, opened: Any) -> Any:
    """That of the command line, or that of the model's own data."""
    return args.data_range or (None if args.data else opened.data_range)


def evaluate(args: argparse.Namespace) -> None:
    from tinyconv import trained

    opened = trained.open_model(args.model)
    model, spec = opened.model, args.data or opened.data or "cifar10"
    from tinyconv import data, report, runs
    from tinyconv.devices import Devices
    from tinyconv.fast.twin import twin

    if not args.data:
        runs.check_data(spec, Path(args.model).parent)
    split, names, what = data.load_test(
        spec, model.input_shape[1:3], opened.class_names, opened.data, _data_range(args, opened)
    )
    classes = model.output_shape[-1]
    if classes != len(names):
        raise InputError(f"{args.model} has {classes} classes, but {spec} has {len(names)}.")
    if opened.class_names is None:
        print(
            "No report.json beside the model names its classes; its outputs are taken in the order "
            f"of {', '.join(names[:10])}{', ...' if len(names) > 10 else '.'}",
            file=sys.stderr,
        )
    fast = twin(model, training=False) if Devices().can_fuse(mixed=False) else model
    found = report.evaluate(fast, split, probabilities=opened.probabilities)
    print(f"\n{what}\n{found.text(names)}")


def export(args: argparse.Namespace) -> None:
    from tinyconv import export, trained

    form = export.find(args.to)
    if args.images < 1:
        raise InputError(f"--images is {args.images}; it must be at least 1.")
    opened = trained.open_model(args.model)
    path = args.out or Path(f"{opened.model.name}{form.tail}")
    export.check_path(path, form)
    import numpy as np

    from tinyconv import data

    size = opened.model.input_shape[1:3]
    spec = args.data or opened.data
    labels = None
    if spec and (args.data or data.is_here(spec)):
        dataset = data.load(spec, size, data_range=_data_range(args, opened))
        what = f"test images of {dataset.name}"
        images, known = dataset.test.some(args.images)
        calibration, _ = dataset.train.some(export.CALIBRATION)
        same = opened.class_names in (None, dataset.class_names)
        if same and opened.model.output_shape[-1] == len(dataset.class_names):
            labels = known
    else:
        what = "noise, as no --data is given and the model's own is not here"
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(args.images, *size, 3), dtype=np.uint8)
        calibration = images[: export.CALIBRATION]
    check = export.export(opened.model, args.to, path, images, labels, calibration)
    print(f"{path}, checked on {what}:\n{check.text()}")


def convert(args: argparse.Namespace) -> None:
    registry.find(args.net)
    from tinyconv import atomic, outputs, report, saving, trained, weights

    atomic.check_writable(args.target.parent)
    if args.target.suffix == ".keras":
        model = registry.create_model(args.net, pretrained=args.source)
        saving.save_model(model, args.target)
    else:
        model = registry.open_model(trained.find(str(args.source)))
        if model.name != args.net:
            raise InputError(f"{args.source} is a {model.name}, not a {args.net}.")
        has_head = any(layer.name == "head_dense" for layer in model.layers)
        if has_head and not outputs.ends_in_linear_dense(model):
            raise InputError(f"{args.source} does not end in its head; take off what follows it.")
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
