"""Weights in and out of PyTorch, by an explicit map of names for each family of nets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import registry
from tinyconv.atomic import check_writable, replacing
from tinyconv.errors import InputError

if TYPE_CHECKING:
    import keras

Layer = tuple[str, str, str]  # name in Keras, name in PyTorch, layout of the kernel

# How a Keras kernel lies in PyTorch, and back; the way back is told the Keras shape.
LAYOUTS: dict[str, tuple[Callable, Callable]] = {
    # (height, width, in, out) <-> (out, in, height, width); in is per group
    "conv": (lambda k: k.transpose(3, 2, 0, 1), lambda t, _: t.transpose(2, 3, 1, 0)),
    # (height, width, in, multiplier) <-> (in * multiplier, 1, height, width)
    "depthwise": (
        lambda k: k.transpose(2, 3, 0, 1).reshape(-1, 1, *k.shape[:2]),
        lambda t, shape: t.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1),
    ),
    # (in, out) <-> (out, in)
    "dense": (lambda k: k.T, lambda t, _: t.T),
    # (in, out) <-> (out, in, 1, 1)
    "pointwise": (lambda k: k.T[:, :, None, None], lambda t, _: t[:, :, 0, 0].T),
    # (1, 1, channels, 1) <-> (1, channels, 1, 1), one factor per channel
    "scale": (lambda k: k.transpose(0, 2, 1, 3), lambda t, _: t.transpose(0, 2, 1, 3)),
    # (channels,) in both
    "norm": (lambda k: k, lambda t, _: t),
}
SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # a batch norm's, of no use to Keras


def _tiniest(name: str) -> Iterator[Layer]:
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "ln1.ln", "norm"
    yield "downscale_conv", "dsconv", "conv"
    yield "downscale_norm", "ln2.ln", "norm"
    for index in range(6):
        block, key = f"stage{index // 3 + 1}_block{index % 3 + 1}", f"l{index + 1}"
        yield f"{block}_scale", f"{key}.rs", "scale"
        yield f"{block}_dwconv3", f"{key}.dwconv1", "depthwise"
        yield f"{block}_dwconv7", f"{key}.dwconv2", "depthwise"
        yield f"{block}_dwconv19", f"{key}.dwconv3", "depthwise"
        yield f"{block}_norm", f"{key}.ln.ln", "norm"
        yield f"{block}_expand", f"{key}.fc1", "pointwise"
        yield f"{block}_project", f"{key}.fc2", "pointwise"
    yield "head_dense", "fc", "dense"


def _resnet(name: str) -> Iterator[Layer]:
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "bn1", "norm"
    blocks = (int(name.removeprefix("resnet")) - 2) // 6
    for stage in (1, 2, 3):
        for number in range(blocks):
            block, key = f"stage{stage}_block{number + 1}", f"layer{stage}.{number}"
            for index in (1, 2):
                yield f"{block}_conv{index}", f"{key}.conv{index}", "conv"
                yield f"{block}_norm{index}", f"{key}.bn{index}", "norm"
            if stage > 1 and number == 0:
                yield f"{block}_shortcut_conv", f"{key}.downsample.0", "conv"
                yield f"{block}_shortcut_norm", f"{key}.downsample.1", "norm"
    yield "head_dense", "fc", "dense"


# Family -> the map of a net of that family by its name; the head comes last.
MAPS: dict[str, Callable[[str], Iterator[Layer]]] = {"tiniest": _tiniest, "resnet": _resnet}


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
    family = registry.find(model.name).family
    if family not in MAPS:
        raise InputError(f"{model.name} has no PyTorch original to exchange weights with.")
    tensors = []
    layers = {layer.name: layer for layer in model.layers}
    for name, prefix, layout in MAPS[family](model.name):
        for variable in layers[name].weights if name in layers else ():
            if layout == "scale":
                tensors.append(_Tensor(prefix, layout, variable))
            else:
                own = layout if variable.name == "kernel" else "norm"
                tensors.append(_Tensor(f"{prefix}.{SUFFIXES[variable.name]}", own, variable))
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
        shape, right = state[tensor.key].shape, tensor.to_torch().shape
        if shape != right:
            raise InputError(
                _mismatch(model, f"have {tensor.key} of shape {shape} instead of {right}")
            )
    for tensor in tensors:
        tensor.variable.assign(tensor.to_keras(state[tensor.key]))


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
    family = registry.find(name).family
    if family not in MAPS:
        raise InputError(f"{name} has no PyTorch original to exchange weights with.")
    *_, (_, prefix, _) = MAPS[family](name)
    key = f"{prefix}.bias"
    if key not in state or np.ndim(state[key]) != 1:
        raise InputError(f"These weights are not those of {name}: they lack {key}.")
    return len(state[key])


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
