"""Arguments that several commands have."""

import argparse
from typing import Any

TRAINED = "a .keras file, a run folder, a net, weights as NET.TAG, or hf://USER/NAME"
DATA = "cifar10, cifar100, digits, tfds:NAME, hf:OWNER/NAME, FILE.npz, FILE.csv or a FOLDER"


def add_data(parser: argparse.ArgumentParser, usual: str, **options: Any) -> None:
    """Add `--data` and `--data-range`. `usual` describes the default of `--data` in the help."""
    parser.add_argument("--data", help=f"{DATA} ({usual})", **options)
    parser.add_argument(
        "--data-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="values of black and white in an .npz (0 255)",
        **options,
    )
