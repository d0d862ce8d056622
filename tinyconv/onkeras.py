"""Makes the package's own layers known to Keras, whichever of the two is imported first.

Keras 3.15 looks a layer up by its registered name and never imports the module that a file names,
and `import tinyconv` is to be cheap, so it cannot import Keras: it waits for it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def register() -> None:
    """Import `tinyconv.layers`: now, if Keras is here, or else right after Keras."""
    if "keras" in sys.modules:
        importlib.import_module("tinyconv.layers")
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras where others find it, and has our layers imported after it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # who finds Keras need not import it: TensorFlow does so
        if spec is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            importlib.import_module("tinyconv.layers")

        loader.exec_module = exec_module
        return spec
