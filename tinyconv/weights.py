"""Weights in and out of PyTorch, by an explicit map of names for each family of nets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import registry
from tinyconv.atomic import check_writable, replacing
from tinyconv.errors import InputError
from tinyconv.maps import COUNTER, LAYOUTS, MAPS, SUFFIXES, WHOLE, Layer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class _Tensor:
    """A weight of a Keras model and where it is in PyTorch."""

    key: str
    layout: str
    variable: Any

    def to_torch(self) -> np.ndarray:
        return np.ascontiguousarray(LAYOUTS[self.layout][0](self.variable.numpy()))

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        return LAYOUTS[self.layout][1](array, self.variable.shape)


def _tensors(model: keras.Model) -> list[_Tensor]:
    """Every weight of `model`, in the order of its map."""
    tensors = []
    layers = {layer.name: layer for layer in model.layers}
    for name, prefix, layout in _map(model.name):
        for variable in layers[name].weights if name in layers else ():
            own = {"kernel": layout, "gain": "gain"}.get(variable.name, "norm")
            key = prefix if layout in WHOLE else f"{prefix}.{SUFFIXES[variable.name]}"
            tensors.append(_Tensor(key, own, variable))
    mapped = {id(tensor.variable) for tensor in tensors}
    if others := [weight.path for weight in model.weights if id(weight) not in mapped]:
        raise InputError(f"This {model.name} is not as it was made: it has {_some(others)}, too.")
    return tensors


def load_torch(model: keras.Model, source: str | Path | Mapping[str, Any]) -> None:
    """Fill `model` in place with the weights of its PyTorch original.

    Args:
        model: a net by `tinyconv.create_model` that has an original in PyTorch.
        source: a state dict with the original's key names: a `.safetensors` file, a `.pt` file
            (which needs PyTorch and is never run as a pickle), or a mapping to arrays.

    Raises:
        InputError: a tensor is missing, left over or of the wrong shape, or the file cannot be
            read. The model is then unchanged.
    """
    state = dict(source) if isinstance(source, Mapping) else read(Path(source))
    state = {key: _array(key, v) for key, v in state.items() if not key.endswith(COUNTER)}
    tensors = _tensors(model)
    expected = {tensor.key for tensor in tensors}
    if missing := sorted(expected - set(state)):
        raise InputError(_mismatch(model, f"lack {_some(missing)}"))
    if surplus := sorted(set(state) - expected):
        raise InputError(_mismatch(model, f"have {_some(surplus)} left over"))
    for tensor in tensors:
        if tensor.layout == "position":
            state[tensor.key] = _resampled(state[tensor.key], model)
        shape, right = state[tensor.key].shape, tensor.to_torch().shape
        if shape != right:
            raise InputError(
                _mismatch(model, f"have {tensor.key} of shape {shape} instead of {right}")
            )
    for tensor in tensors:
        tensor.variable.assign(tensor.to_keras(state[tensor.key]))


def load_body(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Fill all of `model` but its head, which stays as it is; `state` may have one of any width.

    Raises:
        InputError: as `load_torch`.
    """
    head = f"{_head(model.name)}."
    body = {key: tensor for key, tensor in state.items() if not key.startswith(head)}
    own = {t.key: t.to_torch() for t in _tensors(model) if t.key.startswith(head)}
    load_torch(model, body | own)


def _resampled(positions: np.ndarray, model: keras.Model) -> np.ndarray:
    """Position embeddings (1, 1 + tokens, channels) of a square image, for the images of `model`.

    As timm does it: bicubic, smoothed where the image shrinks; the extra token's stays as it is.
    """
    height, width = model.get_layer("patch_conv").output.shape[1:3]
    tokens = positions.shape[1] - 1 if positions.ndim == 3 else 0
    side = math.isqrt(max(tokens, 0))
    if tokens in (0, height * width) or side * side != tokens:
        return positions
    import keras

    grid = positions[:, 1:].reshape(1, side, side, -1)
    grid = keras.ops.image.resize(
        grid, (height, width), "bicubic", antialias=True, data_format="channels_last"
    )
    grid = keras.ops.convert_to_numpy(grid).reshape(1, height * width, -1)
    return np.concatenate([positions[:, :1], grid], axis=1)


def _mismatch(model: keras.Model, what: str) -> str:
    classes = model.output_shape[-1]
    return f"These weights are not those of {model.name} with {classes} classes: they {what}."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def save_torch(model: keras.Model, path: str | Path) -> None:
    """Write the weights of `model` as a state dict with the key names of its PyTorch original.

    Args:
        model: a net by `tinyconv.create_model` that has an original in PyTorch.
        path: a file ending in `.safetensors`, or in `.pt`, which needs PyTorch.

    Raises:
        InputError: the ending is another, or PyTorch is not there.
    """
    state = {tensor.key: tensor.to_torch() for tensor in _tensors(model)}
    for key in [key for key in state if key.endswith("running_mean")]:
        state[key.replace("running_mean", COUNTER)] = np.array(0)
    path = Path(path)
    check_writable(path.parent)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with replacing(path) as partial:
            save_file(state, partial)
    elif path.suffix == ".pt":
        torch = _import_torch(path)
        with replacing(path) as partial:
            torch.save({key: torch.from_numpy(array) for key, array in state.items()}, partial)
    else:
        raise InputError(f"{path} must end in .safetensors or .pt.")


def num_classes(name: str, state: Mapping[str, Any]) -> int:
    """How many classes the net called `name` has by the weights in `state`."""
    key = f"{_head(name)}.bias"
    if key not in state or np.ndim(state[key]) != 1:
        raise InputError(f"These weights are not those of {name}: they lack {key}.")
    return len(state[key])


def _head(name: str) -> str:
    """What the head of the net called `name` is called in PyTorch."""
    *_, (_, prefix, _) = _map(name)
    return prefix


def _map(name: str) -> Iterator[Layer]:
    family = registry.find(name).family
    if family not in MAPS:
        raise InputError(f"{name} has no PyTorch original to exchange weights with.")
    return MAPS[family](name)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` or `.pt` file by name.

    Raises:
        InputError: the file is not there, damaged, or holds anything but named tensors.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path} is damaged or not a .safetensors file.") from error
    if path.suffix not in (".pt", ".pth"):
        raise InputError(f"{path} must end in .safetensors or .pt.")
    torch = _import_torch(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is anyone's guess
        raise InputError(f"{path} is damaged or holds more than tensors; not opened.") from error
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise InputError(f"{path} is not a state dict: a mapping of names to tensors.")
    return {key: _array(key, tensor) for key, tensor in state.items()}


def _array(key: str, tensor: Any) -> np.ndarray:
    """A tensor of PyTorch, or anything NumPy takes, as an array; floats in float32."""
    try:
        if hasattr(tensor, "detach"):
            tensor = tensor.detach().cpu()
            tensor = tensor.float() if tensor.is_floating_point() else tensor
        array = np.asarray(tensor)
        return array if array.dtype.kind in "iub" else array.astype(np.float32, casting="same_kind")
    except (TypeError, ValueError, RuntimeError) as error:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise InputError(f"{key} ({kind}) is not a dense array of real numbers.") from error


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs PyTorch, which is not installed: install it, or use .safetensors."
        ) from error
    return torch
