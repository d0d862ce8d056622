"""Nets and pretrained weights by name: facts that are known without building a net."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from tinyconv.errors import InputError, unknown
from tinyconv.facts import Net, Weights
from tinyconv.rows import NETS

SHIPPED = "tinyconv_c10"  # the tag of the weights that ship


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """List the names of the nets, or of the pretrained weights.

    Args:
        pattern: a shell-style pattern, such as "resnet*". Default: all.
        pretrained: whether to list the weights, as NET.TAG. The tag of weights that ship with
            tinyconv is `SHIPPED`.

    Returns:
        The matching names in alphabetical order.

    Example:

    ```python
    tinyconv.list_models("resnet*")  # ["resnet20", "resnet32", "resnet44", "resnet56"]
    tinyconv.list_models("resnet56*", pretrained=True)
    # ["resnet56.chenyaofo_c10", "resnet56.chenyaofo_c100"]
    ```
    """
    return sorted(fnmatch.filter(_weights() if pretrained else NETS, pattern))


def get(name: str) -> Net:
    """Get the facts about a net by its name, with or without the tag of weights.

    Raises:
        InputError: no net has that name, or no weights of the net have that tag. The message
            suggests the most similar name.
    """
    net, point, _ = name.partition(".")
    if net not in NETS:
        raise unknown("net", net, NETS)
    if point and name not in _weights():
        raise unknown("weights", name, (known for known in _weights() if known.startswith(net)))
    return NETS[net]


def weights(name: str) -> Weights | None:
    """The published weights called `name`, as NET.TAG; None for a net, a file or `SHIPPED`."""
    return _weights().get(name)


def published(name: str) -> Weights | None:
    """The published weights that a net or NET.TAG stands for; None for weights that ship.

    A net stands for the weights that ship, or else for the first published weights.

    Raises:
        InputError: as for `get`, or the net has no weights.
    """
    net = get(name)
    if name != net.name or net.ships:
        return weights(name)
    if not net.weights:
        raise InputError(
            f"{name} has no pretrained weights; train it: tinyconv train --model {name}."
        )
    return net.weights[0]


def is_pretrained(name: str) -> bool:
    """Whether `name` is NET.TAG: the name of weights, or a misspelled one.

    A tag has an underscore and no point. The ending of a file, as in `tiniest.pt`, has no
    underscore.
    """
    net, _, tag = name.partition(".")
    misspelled = net in NETS and "_" in tag and "." not in tag and not Path(name).exists()
    return name in _weights() or misspelled


def _weights() -> dict[str, Weights | None]:
    """A dict from NET.TAG to the published weights, or to None for those that ship."""
    found: dict[str, Weights | None] = {}
    for net in NETS.values():
        found |= {f"{net.name}.{SHIPPED}": None} if net.ships else {}
        found |= {f"{net.name}.{weights.tag}": weights for weights in net.weights}
    return found
