"""Convert weights from PyTorch to Keras, or back."""

import argparse
from pathlib import Path

from tinyconv import registry
from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv convert tiniest tiniest.pt tiniest.keras
  tinyconv convert tiniest tiniest.keras tiniest.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", help="a net by name")
    parser.add_argument(
        "source", type=Path, help="PyTorch weights (.pt, .safetensors, ...), or a .keras file"
    )
    parser.add_argument("target", type=Path, help="a .keras file, or a .pt or .safetensors file")


def main(args: argparse.Namespace) -> None:
    registry.get(args.net)
    from tinyconv import atomic, outputs, report, saving, trained, weights
    from tinyconv.factory import create_model

    atomic.check_writable(args.target.parent)
    if args.target.suffix == ".keras":
        model = create_model(args.net, pretrained=args.source)
        saving.save_model(model, args.target)
    else:
        model = saving.load_model(trained.find(str(args.source)))
        if model.name != args.net:
            raise InputError(f"{args.source} is a {model.name}, not a {args.net}.")
        has_head = any(layer.name == "head_dense" for layer in model.layers)
        if has_head and not outputs.ends_in_linear_dense(model):
            raise InputError(f"{args.source} does not end in its head; remove the layers after it.")
        weights.save_torch(model, args.target)
    print(f"{args.target}: {args.net}, {report.parameters(model):,} parameters")
    if args.target.suffix == ".keras":
        print(registry.get(args.net).preparation())
