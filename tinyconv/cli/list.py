"""List the nets, or the pretrained weights."""

import argparse

from tinyconv import registry
from tinyconv.errors import unknown

EXAMPLES = """
  tinyconv list
  tinyconv list 'resnet*'
  tinyconv list --pretrained
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="pattern of names, as in a shell")
    parser.add_argument(
        "--pretrained", action="store_true", help="list the pretrained weights, as NET.TAG"
    )


def main(args: argparse.Namespace) -> None:
    from tinyconv.table import table

    names = registry.list_models(args.pattern, args.pretrained)
    if not names:
        known = registry.list_models(pretrained=args.pretrained)
        raise unknown("weights" if args.pretrained else "net", args.pattern, known)
    print(table(_weights(names) if args.pretrained else _nets(names)))


def _nets(names: list[str]) -> list[tuple[str, ...]]:
    from tinyconv import trained

    rows: list[tuple[str, ...]] = [
        ("net", "parameters", "MACs, M", "input", "ships: test accuracy", "on", "size, KB")
    ]
    for name in names:
        net = registry.get(name)
        figures = ("-", "-", "-")
        if net.ships:
            file = trained.path(name)
            report = trained.report(file)
            accuracy, size = report["test"]["accuracy"], file.stat().st_size
            figures = (f"{accuracy:.2%}", trained.data_name(report), f"{size / 1000:.0f}")
        shape = "x".join(map(str, net.input_shape))
        rows.append((name, f"{net.parameters:,}", f"{net.macs / 1e6:.2f}", shape, *figures))
    return rows


def _weights(names: list[str]) -> list[tuple[str, ...]]:
    """The size is that of the parameters in float32, for the default number of classes."""
    from tinyconv import trained
    from tinyconv.weights import fetch

    rows: list[tuple[str, ...]] = [
        ("weights", "data", "classes", "accuracy", "size, MB", "licence", "where")
    ]
    for name in names:
        net, weights = registry.get(name), registry.weights(name)
        if weights:
            data, accuracy = weights.accuracy.data, f"{weights.accuracy.percent:.2f}%"
            classes, licence = weights.num_classes, weights.licence
            where = "in the cache" if fetch.is_cached(net.name, weights) else "to be downloaded"
        else:
            report = trained.report(trained.path(net.name))
            data, accuracy = trained.data_name(report), f"{report['test']['accuracy']:.2%}"
            classes, licence, where = len(report["classes"]), "MIT", "ships"
        size = f"{4 * net.parameters / 1e6:.1f}"
        rows.append((name, data, str(classes), accuracy, size, licence, where))
    return rows
