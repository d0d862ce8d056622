"""Write the model card of a run, with front matter for the Hub."""

import argparse
from pathlib import Path

EXAMPLES = """
  tinyconv card models/20261125-120000-tiniest-cifar10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder; the card is its README.md")


def main(args: argparse.Namespace) -> None:
    from tinyconv import atomic, hub_card
    from tinyconv.errors import InputError

    subject, path = hub_card.read(args.run), args.run / "README.md"
    if path.exists() and not hub_card.is_own(path.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{path} was not written by tinyconv card, or was changed since; move it away first."
        )
    atomic.write_text(path, hub_card.page(subject))
    print(path)
