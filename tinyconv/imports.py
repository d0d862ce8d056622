"""Hooks around the first import of a module, and a faster import of Keras."""

import importlib.abc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Keras and TensorFlow import these packages if they are installed, for functions that no command
# calls. `tinyconv` itself imports a package when it needs it.
UNUSED = ("sklearn", "pandas", "matplotlib", "jax")

Context = Callable[[], AbstractContextManager[None]]


def within(name: str, context: Context) -> None:
    """Run the first import of the module `name` within `context()`.

    A call after the import does nothing. Neither does a second call with the same context.
    """
    finder = _Finder(name, context)
    if name not in sys.modules and finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def hide_unused(backend: str) -> None:
    """Hide the packages of `UNUSED`, except the backend, while Keras is imported.

    In this process, Keras then has no scikit-learn wrappers and draws no pictures.
    """
    packages = [name for name in UNUSED if name != backend]
    within("keras", partial(without, packages))


@contextmanager
def without(packages: Iterable[str]) -> Iterator[None]:
    """A context in which an import of one of `packages` fails, unless it is imported already."""
    hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@dataclass
class _Finder(importlib.abc.MetaPathFinder):
    name: str
    context: Context

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        rest = sys.meta_path[sys.meta_path.index(self) + 1 :]
        spec = next((spec for f in rest if (spec := f.find_spec(name, path, target))), None)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with self.context():
                execute(module)

        loader.exec_module = exec_module
        return spec
