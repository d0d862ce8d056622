"""Tiny image classifiers in Keras: train in one command, load in one line."""

from tinyconv import onkeras, registry, weights
from tinyconv.registry import create_model, list_models

__all__ = ["create_model", "list_models", "registry", "weights"]
__version__ = "0.1.0"

onkeras.register()
