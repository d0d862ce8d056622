"""Convert weights from PyTorch to Keras, or back."""

import argparse
from pathlib import Path

from tinyconv import hub, registry
from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv convert tiniest tiniest.pt tiniest.keras
  tinyconv convert tiniest tiniest.keras tiniest.safetensors
  tinyconv convert resnet56 resnet56.chenyaofo_c100 resnet56.keras
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", help="a net by name")
    parser.add_argument(
        "source", help="PyTorch weights (.pt, .safetensors, ...), a .keras file, or NET.TAG"
    )
    parser.add_argument(
        "target", type=Path, help="a .keras, .pt or .safetensors file, which must not exist"
    )


def main(args: argparse.Namespace) -> None:
    registry.get(args.net)
    from tinyconv import atomic, outputs, report, saving, trained, weights
    from tinyconv.factory import create_model

    atomic.check_new(args.target)
    atomic.check_writable(args.target.parent)
    to_keras = args.target.suffix == ".keras"
    if registry.is_pretrained(args.source) or hub.is_address(args.source):
        model = trained.open_model(args.source).model
    elif to_keras:
        model = create_model(args.net, pretrained=args.source)
    else:
        model = saving.load_model(trained.model_file(args.source))
    if model.name != args.net:
        raise InputError(f"{args.source} is a {model.name}, not a {args.net}.")
    if to_keras:
        saving.save_model(model, args.target)
    else:
        has_head = any(layer.name == "head_dense" for layer in model.layers)
        if has_head and not outputs.ends_in_linear_dense(model):
            raise InputError(f"{args.source} does not end in its head; remove the layers after it.")
        weights.save_torch(model, args.target)
    print(f"{args.target}: {args.net}, {report.parameters(model):,} parameters")
    if to_keras:
        print(registry.get(args.net).preparation())
