"""`.keras` files: written as every release of Keras from 3.4 on opens them, and opened.

`keras.Model.save` stores every argument of every layer. A reader of an older release refuses an
argument that it does not know, even one whose value changes nothing. `save_model` leaves such
arguments out; the reader's own default has the same effect.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.atomic import replacing
from tinyconv.errors import InputError

if TYPE_CHECKING:
    import keras

# Arguments that are younger than Keras 3.4, with the value at which they have no effect.
YOUNG = {
    "optional": False,  # InputLayer, 3.4
    "ragged": False,  # InputLayer, 3.9
    "renorm": False,  # BatchNormalization, 3.15; so is the next
    "renorm_momentum": 0.99,
    "rms_scaling": False,  # LayerNormalization until 3.10, and again from 3.15 on
}
OPERATIONS = "keras.src.ops"  # the module of `ops.split` and its like
NUMBER = re.compile(r"_\d+$")


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` to the `.keras` file `path`, whole or not at all.

    Weights and architecture are those that `model.save(path)` stores. Layers that are not Keras'
    own are stored as they are.

    Raises:
        InputError: the file cannot be written.
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
    """The names of all layers that are no operations, without the number at their end."""
    if isinstance(stored, dict):
        config, module = stored.get("config"), str(stored.get("module"))
        if isinstance(config, dict) and not module.startswith(OPERATIONS):
            yield NUMBER.sub("", str(config.get("name")))
    for value in stored.values() if isinstance(stored, dict) else stored:
        if isinstance(value, dict | list):
            yield from _stems(value)


def _portable(stored: Any, stems: set[str]) -> Any:
    """The stored form of a model, a layer or a value, without what older releases refuse."""
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
    # Before 3.11 no operation such as `ops.split` had a name; its node has it, too. A reader makes
    # up another, which must be none of a layer.
    if module.startswith(OPERATIONS) and NUMBER.sub("", str(config.get("name"))) not in stems:
        unknown.add("name")
    stored["config"] = {k: v for k, v in config.items() if k not in unknown}
    return stored


def _defaults(module: str, name: str) -> dict[str, Any]:
    """The default of every argument of a class, its base classes' too."""
    kinds = getattr(importlib.import_module(module), name).__mro__
    signatures = [inspect.signature(kind.__init__) for kind in kinds if "__init__" in vars(kind)]
    return {k: p.default for s in reversed(signatures) for k, p in s.parameters.items()}


def check_floatx() -> None:
    """Make sure that Keras computes in float32 where nothing else is asked for.

    Raises:
        InputError: its `floatx` is another.
    """
    import keras

    if keras.config.floatx() != "float32":
        raise InputError(
            f"Keras' floatx is {keras.config.floatx()}; tinyconv needs float32: set it in "
            "~/.keras/keras.json or by keras.config.set_floatx."
        )


def load_model(path: Path) -> keras.Model:
    """Load a model, of this package or not, from a `.keras` file.

    What its outputs mean is left open: `tinyconv.trained.open_model` finds out.

    Raises:
        InputError: the file is not there, or is not a model from images of one size to a row of
            numbers for each.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    import keras

    import tinyconv.layers  # noqa: F401  Keras then knows them by name

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
    # A Sequential, or a model of lists of one: as a functional model from a tensor to a tensor.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _misfit(model: keras.Model) -> str | None:
    """Why `model` cannot be asked about RGB images of one size, if it cannot."""
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
