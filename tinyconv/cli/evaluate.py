"""Evaluate a trained model: its accuracy, class by class."""

import argparse
from pathlib import Path

from tinyconv.cli.common import TRAINED, add_data

EXAMPLES = """
  tinyconv evaluate cifar10_tiny
  tinyconv evaluate models/20261125-120000-tiniest-photos/model.keras --data photos
  tinyconv evaluate cifar10_tiny --out pictures
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=TRAINED)
    add_data(parser, "what the model was trained on")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="draw confusion, reliability and mistakes (no)"
    )


def main(args: argparse.Namespace) -> None:
    from tinyconv import api

    if args.out:
        api.check_pictures(args.out)
    result = api.evaluate(args.model, args.data, data_range=args.data_range)
    print(f"\n{result}")
    if args.out:
        result.draw(args.out)
        print(f"pictures in {args.out}")
