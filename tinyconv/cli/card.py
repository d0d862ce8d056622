"""Write the model card of a run, with front matter for the Hub."""

import argparse
from pathlib import Path

from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv card models/20261125-120000-tiniest-cifar10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder; the card is its README.md")


def main(args: argparse.Namespace) -> None:
    from tinyconv import atomic, hub_card

    subject, path = hub_card.read(args.run), args.run / "README.md"
    text = hub_card.existing(args.run)
    if text is not None and not hub_card.is_own(text):
        raise InputError(
            f"{path} was not written by tinyconv card, or was changed since; move it away first."
        )
    atomic.write_text(path, hub_card.page(subject))
    print(path)
