"""Saving and loading of `.keras` files.

Every release of Keras from 3.4 on can load the files. `keras.Model.save` stores every argument of
every layer, and an older release refuses an unknown argument even if its value has no effect.
`save_model` leaves such arguments out. The default of the older release has the same effect.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv import collector
from tinyconv.atomic import replacing
from tinyconv.errors import InputError

if TYPE_CHECKING:
    import keras

# Arguments that Keras added since 3.4, with the values that have no effect.
YOUNG = {
    "optional": False,  # InputLayer, 3.4
    "ragged": False,  # InputLayer, 3.9
    "renorm": False,  # BatchNormalization, 3.15, as the next argument
    "renorm_momentum": 0.99,
    "rms_scaling": False,  # LayerNormalization until 3.10, and again from 3.15 on
}
OPERATIONS = "keras.src.ops"  # the module of operations such as `ops.split`
NUMBER = re.compile(r"_\d+$")


def save_model(model: keras.Model, path: Path) -> None:
    """Save `model` to the `.keras` file `path`.

    The weights and the architecture are those that `model.save(path)` stores. The arguments of
    custom layers are all stored.

    Raises:
        InputError: the file cannot be written. An existing file is then unchanged.
    """
    with replacing(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial) as archive:
            parts = [(entry, archive.read(entry)) for entry in archive.infolist()]
        with zipfile.ZipFile(partial, "w") as archive:
            for entry, content in parts:
                if entry.filename == "config.json":
                    stored = json.loads(content)
                    content = json.dumps(_portable(stored, set(_stems(stored)))).encode()
                archive.writestr(entry, content)


def _stems(stored: Any) -> Iterator[str]:
    """The names of all layers but operations, without the number at the end."""
    if isinstance(stored, dict):
        config, module = stored.get("config"), str(stored.get("module"))
        if isinstance(config, dict) and not module.startswith(OPERATIONS):
            yield NUMBER.sub("", str(config.get("name")))
    for value in stored.values() if isinstance(stored, dict) else stored:
        if isinstance(value, dict | list):
            yield from _stems(value)


def _portable(stored: Any, stems: set[str]) -> Any:
    """The configuration of a model, a layer or a value without arguments that are too new."""
    if isinstance(stored, list):
        return [_portable(item, stems) for item in stored]
    if not isinstance(stored, dict):
        return stored
    stored = {key: _portable(value, stems) for key, value in stored.items()}
    module, name, config = (stored.get(key) for key in ("module", "class_name", "config"))
    known = isinstance(module, str) and module.partition(".")[0] == "keras"
    if not (known and isinstance(name, str) and isinstance(config, dict)):
        return stored
    if name == "DTypePolicy":
        return config["name"]
    defaults = _defaults(module, name)
    unknown = {k for k, v in config.items() if v is None and defaults.get(k, ...) is None}
    unknown |= {k for k, v in config.items() if k in YOUNG and YOUNG[k] == v}
    # Before Keras 3.11, operations such as `ops.split` had no argument `name`. An older release
    # makes up a name, which must not be that of a layer.
    if module.startswith(OPERATIONS) and NUMBER.sub("", str(config.get("name"))) not in stems:
        unknown.add("name")
    stored["config"] = {k: v for k, v in config.items() if k not in unknown}
    return stored


def _defaults(module: str, name: str) -> dict[str, Any]:
    """The default of every argument of a class and its base classes."""
    kinds = getattr(importlib.import_module(module), name).__mro__
    signatures = [inspect.signature(kind.__init__) for kind in kinds if "__init__" in vars(kind)]
    return {k: p.default for s in reversed(signatures) for k, p in s.parameters.items()}


def keras_home() -> Path:
    """The folder of Keras' settings and cache."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def check_floatx() -> None:
    """Check that Keras computes in float32 by default.

    Raises:
        InputError: Keras' `floatx` is not "float32".
    """
    import keras

    if keras.config.floatx() != "float32":
        raise InputError(
            f"Keras' floatx is {keras.config.floatx()}; tinyconv needs float32: set it in "
            "~/.keras/keras.json or by keras.config.set_floatx."
        )


@collector.paused()
def load_model(path: Path) -> keras.Model:
    """Load a model from a `.keras` file. The model need not be a net of tinyconv.

    The file may also be a folder with the parts of a `.keras` file, as models on the Hub are. The
    outputs may be logits or probabilities. `tinyconv.trained.open_model` tells which.

    Returns:
        A functional model from one tensor (batch, height, width, 3) to one tensor (batch, classes).

    Raises:
        InputError: the file does not exist, cannot be loaded, or has a model with other inputs or
            outputs.
    """
    if not path.is_file() and not (path / "config.json").is_file():
        raise InputError(f"There is no file {path}.")
    import keras

    import tinyconv.layers  # noqa: F401  registers the custom layers

    check_floatx()
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        if "`Lambda`" in str(error):
            raise InputError(
                f"{path} cannot be opened as a Keras model without running the code in its Lambda "
                "layer; put a stock layer in its place."
            ) from error
        raise InputError(f"{path} cannot be opened as a Keras model.") from error
    if misfit := _misfit(model):
        raise InputError(f"{path} is not a model from RGB images of one size to classes: {misfit}.")
    ends = (getattr(model, end, None) for end in ("input", "output"))
    if all(isinstance(end, keras.KerasTensor) for end in ends):
        return model
    # A Sequential, or a model with its input or output in a list, becomes a functional model.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _misfit(model: keras.Model) -> str | None:
    """Why `model` does not map RGB images of one size to classes; None if it does."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return "it has no inputs and outputs of known shape; make it a functional model"
    for tensors, kind in ((inputs, "input"), (outputs, "output")):
        if len(tensors) > 1:
            return f"it has {len(tensors)} {kind}s; it must have one"
    taken, given = tuple(inputs[0].shape), tuple(outputs[0].shape)
    if len(taken) != 4 or taken[3] != 3:
        return f"its input has shape {taken}; it must be (None, height, width, 3)"
    if None in taken[1:]:
        return f"its input has shape {taken}; height and width must be numbers"
    if taken[0] is not None:
        return f"it takes {taken[0]} images at a time; the batch size must be None"
    if len(given) != 2 or given[1] is None:
        return f"its output has shape {given}; it must be (None, classes)"
    return None
