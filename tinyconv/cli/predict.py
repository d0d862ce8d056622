"""Classify images: the five likeliest classes of each."""

import argparse
import json
import sys

from tinyconv.cli.common import TRAINED
from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv predict cifar10_tiny photo.jpg
  tinyconv predict cifar10_tiny photos/ '*.png' --json > answers.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=TRAINED)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder or a glob")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each image")


def main(args: argparse.Namespace) -> None:
    from tinyconv import trained

    opened = trained.open_model(args.model)
    names = opened.class_names
    if names is None:
        names = tuple(map(str, range(opened.model.output_shape[-1])))
        if opened.file:
            print(
                "No report.json beside the model names its classes; they are numbers.",
                file=sys.stderr,
            )
    from tqdm import tqdm

    from tinyconv import prediction

    files = prediction.image_files(args.images)
    errors = 0
    progress = tqdm(
        prediction.records(opened.model, files, names, opened.probabilities, opened.crop),
        total=len(files),
        unit="image",
        leave=False,
        disable=None if len(files) > prediction.BATCH else True,  # None: off without a terminal
    )
    for record in progress:
        if "error" in record:
            errors += 1
            progress.write(f"error: {' '.join(record['error'].split())}", file=sys.stderr)
        if args.json:
            progress.write(json.dumps(record))
        elif "top" in record:
            progress.write(prediction.text(record))
    if errors:
        raise InputError(f"{errors} of {len(files)} images have no answer.")
