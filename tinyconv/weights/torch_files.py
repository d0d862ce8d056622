"""Reading of state dicts from PyTorch files, also from checkpoints that contain a state dict."""

import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.errors import InputError
from tinyconv.weights import pickles
from tinyconv.weights.layouts import widen

ENDINGS = (".safetensors", ".pt", ".pth", ".pth.tar", ".bin", ".ckpt")
ENTRIES = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
AVERAGED = "n_averaged"  # the counter of torch.optim.swa_utils.AveragedModel
DEEPEST = 8  # limit of nesting: a mapping in a pickle may contain itself
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1",
}  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a file. A checkpoint may contain it, and its keys may have a prefix.

    Args:
        path: a file with one of `ENDINGS`. PyTorch is not needed, and no code in the file is run.

    Returns:
        The arrays by name, without the prefix. Floats are in float32.

    Raises:
        InputError: the file does not exist, is damaged, or does not have exactly one state dict.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if not path.name.lower().endswith(ENDINGS):
        *others, last = ENDINGS
        raise InputError(f"{path} must end in {', '.join(others)} or {last}.")
    pickled = path.suffix.lower() != ".safetensors"
    _check_content(path, pickled)
    state = unwrap(_unpickled(path) if pickled else _safetensors(path), str(path))
    return {key: to_array(key, tensor) for key, tensor in state.items()}


def unwrap(content: Any, what: str) -> dict[str, Any]:
    """Find the state dict in the content of a file, and remove a prefix of its keys.

    If the state dict is an entry of `content` or has a prefix, a line on stderr says so.

    Args:
        content: the content.
        what: the name of the file, for messages.

    Raises:
        InputError: `content` has no state dict, or more than one candidate.
    """
    found = dict(_states(content))
    if not found:
        entries = f"; it has {some(content)}" if isinstance(content, Mapping) and content else ""
        raise InputError(f"{what} is not a state dict: a mapping of names to tensors{entries}.")
    likely = [path for path in found if all(entry in ENTRIES for entry in path)]
    if not likely:
        raise InputError(
            f"{what} has no state dict under a name that is known ({', '.join(ENTRIES)}); "
            f"it has {some(content)}."
        )
    chosen = likely[0]
    state, prefix = without_prefix(found[chosen])
    alike = [path for path in found if without_prefix(found[path])[0].keys() == state.keys()]
    averages = [
        (key,)
        for key, value in content.items()
        if isinstance(value, Mapping) and value and "ema" in str(key).lower().split("_")
    ]
    if rivals := [p for p in (*likely, *alike, *averages) if p not in (chosen, chosen[:1])]:
        raise InputError(
            f"{what} has weights under {_at(chosen)} and under {_at(rivals[0])}; save only the "
            f"right ones: torch.save(torch.load(FILE, weights_only=True){_at(chosen)}, NEW_FILE)."
        )
    if chosen or prefix:
        entry = f"entry {_at(chosen)}" if chosen else "all of it"
        tail = f", prefix {prefix!r} left out" if prefix else ""
        print(f"{what}: read {entry}{tail}", file=sys.stderr)
    return state


def _states(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Mapping]]:
    """Yield the keys to every mapping of names to tensors in `content`, and the mapping.

    Mappings of an optimizer are left out.
    """
    if not isinstance(content, Mapping) or not content or len(path) > DEEPEST:
        return
    values = content.values()
    if all(isinstance(key, str) for key in content) and all(hasattr(v, "shape") for v in values):
        yield path, content
    for key, value in content.items():
        if not str(key).lower().startswith("optim"):
            yield from _states(value, (*path, key))


def _at(path: tuple[str, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path)


def without_prefix(state: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Remove the known prefixes that all keys of a state dict share.

    Returns:
        The state dict without the prefix, and the prefix, which may be empty.
    """
    prefix, keys = "", [key for key in state if key != AVERAGED]
    while keys and (more := [p for p in PREFIXES if all(k.startswith(prefix + p) for k in keys)]):
        prefix += more[0]
    return {key.removeprefix(prefix): state[key] for key in (keys if prefix else state)}, prefix


def some(names: Any) -> str:
    """The first three of `names` and the number of the others, as text."""
    names = list(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def to_array(key: str, tensor: Any) -> np.ndarray:
    """Convert a PyTorch tensor or an array-like to a NumPy array, with floats in float32.

    Raises:
        InputError: the tensor called `key` is not a dense array of real numbers.
    """
    try:
        if hasattr(tensor, "detach"):
            tensor = tensor.detach().cpu()
            tensor = tensor.float() if tensor.is_floating_point() else tensor
        array = np.asarray(tensor)
        return array if array.dtype.kind in "iub" else array.astype(np.float32, casting="same_kind")
    except (TypeError, ValueError, RuntimeError) as error:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise InputError(f"{key} ({kind}) is not a dense array of real numbers.") from error


def import_torch(path: Path) -> Any:
    """Import PyTorch, which the file `path` needs.

    Raises:
        InputError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs PyTorch, which is not installed: install it, or use .safetensors."
        ) from error
    return torch


def _check_content(path: Path, pickled: bool) -> None:
    """Refuse a file that has no weights, judged by its first bytes or its members in an archive."""
    with path.open("rb") as file:
        start = file.read(512)
    problem, is_safetensors = None, start[8:9] == b"{"  # the header follows its length
    start = start.lstrip()
    if is_safetensors:
        problem = "is a .safetensors file by its content; rename it" if pickled else None
    elif not start:
        problem = "is empty; fetch it again"
    elif start.startswith(b"<"):
        problem = "is a web page, not weights; fetch the file that the page links to"
    elif start.startswith(b"version https://git-lfs"):
        problem = "is a pointer of Git LFS, not weights; run git lfs pull"
    elif pickled and start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = {name.rpartition("/")[2] for name in archive.namelist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            problem = "is damaged or cut short; fetch it again"
        else:
            if "constants.pkl" in members:
                problem = (
                    "is a TorchScript file, whose code is not run; save the state dict instead: "
                    "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
                )
            elif "data.pkl" not in members:
                problem = "is a .zip archive that torch.save did not write"
    elif pickled and not start.startswith(b"\x80"):
        problem = "is not a file that torch.save wrote"
    if problem:
        raise InputError(f"{path} {problem}.")


def _unpickled(path: Path) -> Any:
    try:
        return pickles.read(path)
    except pickles.UnknownGlobalError as error:
        raise InputError(
            f"{path} holds more than tensors ({error}), which is not opened; save the state "
            "dict alone: torch.save(model.state_dict(), FILE)."
        ) from error
    except pickles.DamagedError as error:
        raise InputError(f"{path} is damaged or holds more than tensors; not opened.") from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file. NumPy has no bfloat16, which is read as float32."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(path.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or not a .safetensors file; fetch it again."
        ) from error
    state = {}
    for name, tensor in tensors:
        kind = tensor["dtype"]
        if kind not in DTYPES:
            raise InputError(f"{name} ({kind}) is not a dense array of real numbers.")
        array = np.frombuffer(tensor["data"], DTYPES[kind])
        if kind == "BF16":
            array = widen(array)
        state[name] = array.reshape(tensor["shape"])
    return state
