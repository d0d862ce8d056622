"""The PyTorch nets that ours were rebuilt after, where they are installed, to be timed beside."""

from collections.abc import Callable
from typing import Any

from tinyconv import registry
from tinyconv.errors import InputError


def find(name: str) -> Callable[[], Any]:
    """What makes the original of the net called `name`: a `torch.nn.Module` with random weights.

    Raises:
        InputError: it is not known how to make it, or what makes it is not installed.
    """
    source = registry.find(name).source
    for prefix, importer in IMPORTERS.items():
        if source.startswith(prefix):
            try:
                return importer(name)
            except (ImportError, RuntimeError) as error:  # torchvision, for another PyTorch
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                raise InputError(f"The original of {name} cannot be imported ({what}).") from error
    raise InputError(f"No original of {name} is known to compare with; leave out --compare.")


def _timm(name: str) -> Callable[[], Any]:
    import timm

    return lambda: timm.create_model(name)


# The beginning of a net's `source` -> what imports the maker of a net by name.
IMPORTERS: dict[str, Callable[[str], Callable[[], Any]]] = {"https://huggingface.co/timm/": _timm}
