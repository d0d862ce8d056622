"""Evaluate a trained model: its accuracy, class by class."""

import argparse

from tinyconv.cli.common import TRAINED, add_data

EXAMPLES = """
  tinyconv evaluate cifar10_tiny
  tinyconv evaluate models/20261125-120000-tiniest-photos/model.keras --data photos
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=TRAINED)
    add_data(parser, "what the model was trained on")


def main(args: argparse.Namespace) -> None:
    from tinyconv import api

    print(f"\n{api.evaluate(args.model, args.data, data_range=args.data_range)}")
