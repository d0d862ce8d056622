"""Tiny image classifiers in Keras: trained with one command, loaded with one line."""

import importlib
from typing import TYPE_CHECKING, Any

from tinyconv import registry, terminal, weights
from tinyconv.errors import InputError
from tinyconv.factory import create_model
from tinyconv.registry import list_models

if TYPE_CHECKING:
    from tinyconv.api import evaluate, export, predict
    from tinyconv.training.train import train

__all__ = [
    "InputError",
    "create_model",
    "evaluate",
    "export",
    "list_models",
    "predict",
    "registry",
    "train",
    "weights",
]
__version__ = "0.1.0"
_LAZY = {  # public name -> module; these modules import Keras
    "evaluate": "tinyconv.api",
    "export": "tinyconv.api",
    "predict": "tinyconv.api",
    "train": "tinyconv.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


if terminal.in_notebook():  # a command calls `terminal.prepare`
    terminal.quieten()
