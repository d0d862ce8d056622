"""The console script `tinyconv`. Each command has a module in this package.

The module of a command has a docstring of one line, which is the help text, `EXAMPLES`,
`add_arguments(parser)` and `main(args)`.
"""

import argparse
import atexit
import gc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tinyconv import __version__, imports, saving, terminal
from tinyconv.errors import InputError

COMMANDS = (
    *("list", "summary", "recipes", "train", "predict", "explain", "evaluate", "export"),
    *("convert", "time", "card", "push"),
)
SETTINGS = {  # entries of keras.json -> the supported values, with the default first
    "floatx": ("float32",),
    "image_data_format": ("channels_last", "channels_first"),
}


def run(main: Callable[[], None]) -> None:
    """Call `main`. Print an `InputError` and exit with 2. On Ctrl-C, exit with 130."""
    terminal.prepare()
    gc.set_threshold(100_000, 50, 50)  # the import of TensorFlow makes many objects that stay
    atexit.register(gc.freeze)  # the interpreter ends without a search for garbage
    try:
        imports.hide_unused(_backend())
        main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)


def _backend() -> str:
    """Keras' backend, by settings that are checked before the slow import of Keras.

    Raises:
        InputError: tinyconv does not support the settings.
    """
    path = saving.keras_home() / "keras.json"
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
    return name


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line.

    Args:
        arguments: the command and its arguments. Default: those of this process.

    Returns:
        The arguments. Their `main` is the function of the command.
    """
    parser = argparse.ArgumentParser(prog="tinyconv", description="Tiny image classifiers.")
    version: Any = {"action": "version", "version": f"tinyconv {__version__}"}
    parser.add_argument("--version", **version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"tinyconv.cli.{name}")
        line = str(module.__doc__).strip()
        command = commands.add_parser(
            name,
            help=line.rstrip("."),
            description=line,
            epilog=f"examples:\n{module.EXAMPLES.rstrip()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--version", **version)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line.

    Args:
        arguments: the command and its arguments. Default: those of this process.
    """

    def command() -> None:
        args = parse(arguments)
        args.main(args)

    run(command)
