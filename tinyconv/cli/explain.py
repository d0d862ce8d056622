"""Draw the parts of an image that the answer of a model depends on."""

import argparse
from pathlib import Path

from tinyconv.cli.common import TRAINED
from tinyconv.errors import InputError, unknown

MOST = 20  # images in a picture
EXAMPLES = """
  tinyconv explain cifar10_tiny photo.jpg
  tinyconv explain cifar10_tiny photos/ --class dog --out dogs.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=TRAINED)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder or a glob")
    parser.add_argument("--class", dest="name", help="class to explain (the likeliest)")
    parser.add_argument(
        "--out", type=Path, default=Path("explained.png"), help="PNG to write (explained.png)"
    )


def main(args: argparse.Namespace) -> None:
    from tinyconv import data, trained
    from tinyconv.atomic import check_new, check_writable

    if args.out.suffix.lower() != ".png":
        raise InputError(f"--out is {args.out}; it must end in .png.")
    check_new(args.out)
    check_writable(args.out.parent)
    opened = trained.open_model(args.model)
    names = opened.class_names or tuple(map(str, range(opened.model.output_shape[-1])))
    if args.name is not None and args.name not in names:
        raise unknown("class", args.name, names)
    from tinyconv import prediction, saliency, sheets

    files = prediction.image_files(args.images)
    if len(files) > MOST:
        raise InputError(f"{len(files)} images are too many for a picture; give at most {MOST}.")
    rows = []
    for file, shares in prediction.answers(opened.model, files, opened.probabilities, opened.crop):
        if isinstance(shares, InputError):
            raise shares
        top = prediction.best(shares, names)
        index = top[0]["index"] if args.name is None else names.index(args.name)
        image = data.read_image(file, opened.model.input_shape[1:3], opened.crop)
        fall = saliency.occlusion(opened.model, image, index, opened.probabilities)
        rows.append(sheets.Explained(data.text(file.name), image, fall, names[index], index, top))
        print(
            f"{data.text(file)}: {names[index]} {shares[index]:.1%}, falls by up to "
            f"{100 * max(fall.max(), 0):.1f} points where the image is hidden"
        )
    sheets.explanations(rows, args.out)
    print(f"picture: {args.out}")
