"""Show the layers of a net, with their sizes and multiply-adds."""

import argparse
from pathlib import Path

from tinyconv import registry

EXAMPLES = """
  tinyconv summary tiniest
  tinyconv summary mine.keras
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a net by name, weights as NET.TAG, or a .keras file")


def main(args: argparse.Namespace) -> None:
    if not args.model.endswith(".keras"):
        registry.get(args.model)
    from tinyconv import report, saving
    from tinyconv.factory import create_model

    model = saving.load_model(Path(args.model)) if args.model.endswith(".keras") else None
    print(report.summary(model or create_model(args.model)))
