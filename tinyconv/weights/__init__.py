"""Conversion of weights from and to PyTorch, with the names in each module of `tinyconv.nets`."""

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
from tinyconv.weights.layouts import COUNTER, LAYOUTS, SUFFIXES, WHOLE
from tinyconv.weights.torch_files import import_torch, read, some, to_array, unwrap

if TYPE_CHECKING:
    import keras

__all__ = ["load_body", "load_torch", "num_classes", "read", "save_torch"]


@dataclass(frozen=True)
class _Tensor:
    """A weight of a Keras model, its key in PyTorch and its layout."""

    key: str
    layout: str
    variable: Any

    def to_torch(self) -> np.ndarray:
        return np.ascontiguousarray(LAYOUTS[self.layout][0](self.variable.numpy()))

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        return LAYOUTS[self.layout][1](array, self.variable.shape)


def _tensors(model: keras.Model) -> list[_Tensor]:
    """Every weight of `model`, in the order of `torch_names`."""
    tensors = []
    layers = {layer.name: layer for layer in model.layers}
    for name, prefix, layout in _torch_names(model.name):
        for variable in layers[name].weights if name in layers else ():
            own = {"kernel": layout, "gain": "gain"}.get(variable.name, "norm")
            key = prefix if layout in WHOLE else f"{prefix}.{SUFFIXES[variable.name]}"
            tensors.append(_Tensor(key, own, variable))
    mapped = {id(tensor.variable) for tensor in tensors}
    if others := [weight.path for weight in model.weights if id(weight) not in mapped]:
        raise InputError(f"This {model.name} has weights that the original lacks: {some(others)}.")
    return tensors


def load_torch(model: keras.Model, source: str | Path | Mapping[str, Any]) -> None:
    """Fill `model` in place with the weights of its PyTorch original.

    Args:
        model: a net from `tinyconv.create_model` that has an original in PyTorch.
        source: a state dict with the key names of the original: a file, as for
            `tinyconv.weights.read`, or a mapping of names to arrays. The state dict may be an entry
            of a checkpoint.

    Raises:
        InputError: a tensor is missing, unknown or of the wrong shape, or the file cannot be read.
            The model is then unchanged.
    """
    state = unwrap(source, "The mapping") if isinstance(source, Mapping) else read(Path(source))
    found = f"found {len(state)} tensors: {some(state)}"
    state = _with_own_keys(model.name, state)
    state = {key: to_array(key, v) for key, v in state.items() if not key.endswith(COUNTER)}
    tensors = _tensors(model)
    expected = {tensor.key for tensor in tensors}
    if missing := sorted(expected - set(state)):
        raise InputError(_mismatch(model, f"lack {some(missing)}", found))
    if surplus := sorted(set(state) - expected):
        raise InputError(_mismatch(model, f"have {some(surplus)} left over", found))
    for tensor in tensors:
        if tensor.layout == "position":
            state[tensor.key] = _resampled(state[tensor.key], model)
        array, right = state[tensor.key], tensor.to_torch()
        if array.dtype.kind != "f":
            wrong = f"have {tensor.key} of type {array.dtype}, not floating-point numbers"
            raise InputError(_mismatch(model, wrong, found))
        if array.shape != right.shape:
            wrong = f"have {tensor.key} of shape {array.shape} instead of {right.shape}"
            raise InputError(_mismatch(model, wrong, found))
    for tensor in tensors:
        tensor.variable.assign(tensor.to_keras(state[tensor.key]))


def load_body(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Fill `model` in place with the weights of its PyTorch original, except the head.

    Args:
        model: as for `load_torch`.
        state: a state dict. It may have a head for any number of classes, or none.

    Raises:
        InputError: as for `load_torch`.
    """
    head = f"{_head(model.name)}."
    state = _with_own_keys(model.name, state)
    body = {key: tensor for key, tensor in state.items() if not key.startswith(head)}
    own = {t.key: t.to_torch() for t in _tensors(model) if t.key.startswith(head)}
    load_torch(model, body | own)


def _resampled(positions: np.ndarray, model: keras.Model) -> np.ndarray:
    """Resize the position embeddings of a square image to the input shape of `model`.

    The embeddings have the shape (1, 1 + tokens, channels). The resizing is that of timm: bicubic,
    with antialiasing. The embedding of the class or register token is unchanged.
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


def _mismatch(model: keras.Model, what: str, found: str) -> str:
    head = "without a head"
    if any(layer.name == "head_dense" for layer in model.layers):
        head = f"with {model.output_shape[-1]} classes"
    return f"These weights are not those of {model.name} {head}: they {what} ({found})."


def save_torch(model: keras.Model, path: str | Path) -> None:
    """Write the weights of `model` as a state dict with the key names of its PyTorch original.

    Args:
        model: a net from `tinyconv.create_model` that has an original in PyTorch.
        path: a file that ends in `.safetensors` or `.pt`. A `.pt` file needs PyTorch.

    Raises:
        InputError: the file has another ending, needs PyTorch, which is not installed, or cannot be
            written.
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
        torch = import_torch(path)
        with replacing(path) as partial:
            torch.save({key: torch.from_numpy(array) for key, array in state.items()}, partial)
    else:
        raise InputError(f"{path} must end in .safetensors or .pt.")


def num_classes(name: str, state: Mapping[str, Any]) -> int | None:
    """The number of classes in a state dict of the net called `name`; None if it has no head.

    Raises:
        InputError: the head is incomplete, or the weights are of another net.
    """
    *body, (_, head, _) = _torch_names(name)
    state = _with_own_keys(name, state)
    owners = set(state) | {key.rpartition(".")[0] for key in state}
    key = f"{head}.bias"
    if head in owners and np.ndim(state.get(key, 0)) == 1:
        return len(state[key])
    # Some layers exist in one variant of the net only.
    of_this_net = sum(prefix in owners for _, prefix, _ in body) > len(body) / 2
    if head in owners or not of_this_net:
        found = f"found {len(state)} tensors: {some(state)}"
        raise InputError(f"These weights are not those of {name}: they lack {key} ({found}).")
    return None


def _with_own_keys(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict with the key names of the original, where those of another port are known."""
    torch_key = getattr(registry.get(name).module(), "torch_key", None)
    return {torch_key(key) if torch_key else key: tensor for key, tensor in state.items()}


def _head(name: str) -> str:
    """The name in PyTorch of the head of the net called `name`."""
    *_, (_, prefix, _) = _torch_names(name)
    return prefix


def _torch_names(name: str) -> Iterator[tuple[str, str, str]]:
    """(name in Keras, name in PyTorch, layout) of each layer of the net called `name`."""
    names = getattr(registry.get(name).module(), "torch_names", None)
    if names is None:
        raise InputError(f"{name} has no PyTorch original to exchange weights with.")
    return names(name)
