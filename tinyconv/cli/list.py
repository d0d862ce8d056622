"""List the nets, and which of them ship trained."""

import argparse

from tinyconv import registry
from tinyconv.errors import unknown

EXAMPLES = """
  tinyconv list
  tinyconv list 'resnet*'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="pattern of names, as in a shell")


def main(args: argparse.Namespace) -> None:
    from tinyconv import trained
    from tinyconv.table import table

    rows: list[tuple[str, ...]] = [
        ("net", "parameters", "MACs, M", "input", "ships: test accuracy", "on", "size, KB")
    ]
    shipped = trained.shipped()
    for name in registry.list_models(args.pattern):
        net = registry.get(name)
        figures = ("-", "-", "-")
        if name in shipped:
            file = trained.path(name)
            report = trained.report(file)
            accuracy, size = report["test"]["accuracy"], file.stat().st_size
            figures = (f"{accuracy:.2%}", trained.data_name(report), f"{size / 1000:.0f}")
        shape = "x".join(map(str, net.input_shape))
        rows.append((name, f"{net.parameters:,}", f"{net.macs / 1e6:.2f}", shape, *figures))
    if len(rows) == 1:
        raise unknown("net", args.pattern, registry.NETS)
    print(table(rows))
