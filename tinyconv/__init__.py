"""Tiny image classifiers in Keras: train in one command, load in one line."""

from tinyconv import registry, weights
from tinyconv.factory import create_model
from tinyconv.registry import list_models

__all__ = ["create_model", "list_models", "registry", "weights"]
__version__ = "0.1.0"
