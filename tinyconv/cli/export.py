"""Export a trained model for phones, microcontrollers, browsers and C++."""

import argparse
import shlex
from pathlib import Path

from tinyconv.cli.common import TRAINED, add_data

EXAMPLES = """
  tinyconv export cifar10_tiny --to litert
  tinyconv export cifar10_tiny_half --to micro
  tinyconv export mine.keras --to litert-int8 --data photos --out mine.tflite
  tinyconv export cifar10_tiny --to web
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=TRAINED)
    parser.add_argument(
        "--to",
        required=True,
        help="litert, litert-int8, micro, onnx, openvino, openvino-int8, savedmodel or web",
    )
    text = "file or folder to write, which must not exist (named after the model, in this folder)"
    parser.add_argument("--out", type=Path, help=text)
    add_data(parser, "the model's own; the images to compare with Keras")
    parser.add_argument("--images", type=int, default=1000, help="number of images (1000)")
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="DIR",
        help="for web: a folder of the npm package onnxruntime-web (node_modules, npm or a CDN)",
    )


def main(args: argparse.Namespace) -> None:
    from tinyconv import api, exporters

    path, what, check = api.export_and_check(
        args.model,
        args.to,
        args.out,
        args.data,
        images=args.images,
        data_range=args.data_range,
        runtime=args.runtime,
    )
    print(f"{path}, checked on {what}:\n{check.text()}")
    if use := exporters.get(args.to).use:
        print(use.format(path=shlex.quote(str(path))))
