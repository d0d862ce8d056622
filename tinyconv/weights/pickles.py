"""Reading of `.pt` files without PyTorch, by an interpreter of pickles that only knows tensors.

A pickle is a program for a machine with a stack. This module runs the instructions that build
containers, numbers and text. Calls are limited to the functions in `FUNCTIONS`, which build tensors
and cannot do harm. Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py.
"""

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.weights.layouts import widen

DTYPES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
OTHER_DTYPES = ("ComplexDouble", "ComplexFloat", "ComplexHalf", "QInt8", "QInt32", "QUInt8")
OWN_DTYPES = ("float32", "float16", "bfloat16", "float64", "int64")  # also without a tensor
VALUES = {  # instructions that push their argument
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file of PyTorch before 1.6
VERSION = 1001
MARK = object()


class UnknownGlobalError(Exception):
    """A pickle names a function or class that a state dict does not need."""


class DamagedError(Exception):
    """A file is not one that `torch.save` writes."""


@dataclass(frozen=True)
class Other:
    """A tensor that is not a dense array of real numbers."""

    dtype: str
    shape: tuple = ()


@dataclass(frozen=True)
class _Storage:
    """A row of numbers of one type in a file."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Strided:
    """A tensor: a part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Strided:
    """A tensor whose numbers are all in its storage."""
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise DamagedError("it has a tensor without numbers")
    if not all(type(n) is int and n >= 0 for n in (offset, storage.count, *shape, *strides)):
        raise DamagedError("it has a tensor of an odd shape")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    count = math.prod(shape)
    if count and (count > storage.count or last >= storage.count):
        raise DamagedError("it has a tensor outside its numbers")
    return _Strided(storage, offset, tuple(shape), tuple(strides))


FUNCTIONS: dict[str, Callable] = {
    "collections.OrderedDict": lambda: {},
    "builtins.set": lambda *_: None,
    "torch.Size": tuple,
    "torch.device": lambda *_: None,
    "torch.serialization._get_layout": lambda *_: None,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._utils._rebuild_sparse_tensor": lambda *_: Other("sparse"),
}


@dataclass(frozen=True)
class _Global:
    """A function or class that a pickle names."""

    name: str


def read(path: Path) -> Any:
    """Read the content of a `.pt` file, in the format since PyTorch 1.6 or the one before.

    Args:
        path: the file.

    Returns:
        The content. Tensors are arrays, with bfloat16 as float32, or `Other`.

    Raises:
        UnknownGlobalError: the file has more than tensors. Its text is the name of the first other
            function or class.
        DamagedError: the file is not one that `torch.save` wrote.
    """
    try:
        content, storages = (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(path)
        return _with_arrays(content, storages, {})
    except (UnknownGlobalError, DamagedError):
        raise
    except Exception as error:  # a damaged file raises errors of many types
        raise DamagedError(str(error)) from error


def _read_zip(path: Path) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise DamagedError("it is compressed")
        (name,) = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        folder = name.removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise DamagedError("its numbers are big-endian")
        machine = _Machine()
        content = machine.run(io.BytesIO(archive.read(name)))
        return content, {key: archive.read(f"{folder}data/{key}") for key in machine.storages}


def _read_legacy(path: Path) -> tuple[Any, dict[str, bytes]]:
    stream = io.BytesIO(path.read_bytes())
    if [_Machine().run(stream), _Machine().run(stream)] != [MAGIC, VERSION]:
        raise DamagedError("it has no header of PyTorch")
    if not _Machine().run(stream)["little_endian"]:
        raise DamagedError("its numbers are big-endian")
    machine = _Machine()
    content = machine.run(stream)
    storages = {}
    for key in _Machine().run(stream):
        storage = machine.storages[key]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.count:
            raise DamagedError(f"storage {key} has another length")
        storages[key] = stream.read(count * np.dtype(DTYPES.get(storage.dtype, "u1")).itemsize)
    return content, storages


class _Machine:
    """Runs a pickle. Tensors become `_Strided`."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Run the pickle at the position of `stream`, and return the object that it builds."""
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name != "STOP":  # the last
                self._step(opcode.name, argument)
        return self.stack.pop()

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case _ if opcode in VALUES:
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "MARK":
                stack.append(MARK)
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "LIST":
                stack.append(self._pop_mark())
            case "DICT":
                items = self._pop_mark()
                stack.append({})
                self._set(items)
            case "TUPLE":
                stack.append(tuple(self._pop_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "APPEND":
                self._extend(self._pop(1))
            case "APPENDS" | "ADDITEMS":
                self._extend(self._pop_mark())
            case "SETITEM":
                self._set(self._pop(2))
            case "SETITEMS":
                self._set(self._pop_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "POP" | "BUILD":  # BUILD sets attributes, such as the versions of a state dict
                stack.pop()
            case "POP_MARK":
                self._pop_mark()
            case "GLOBAL":
                stack.append(_global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_global(".".join(self._pop(2))))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(FUNCTIONS[function.name](*arguments))
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)[0]))
            case _:
                raise DamagedError(f"it has the instruction {opcode}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise DamagedError("its stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_mark(self) -> list[Any]:
        """Remove the items after the last mark, and the mark."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise DamagedError("it appends to no list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        # The hash of a deeply nested tuple would overflow the stack of Python.
        if not all(isinstance(key, str | int | float | None) for key in keys):
            raise DamagedError("it has a key that is neither text nor a number")
        if not isinstance(self.stack[-1], dict):
            raise DamagedError("it sets an item of no mapping")
        self.stack[-1].update(zip(keys, values, strict=True))

    def _storage(self, kind: Any, dtype: Any, key: Any, _: Any, count: Any, *view: Any) -> _Storage:
        if kind != "storage" or not isinstance(dtype, _Global) or any(view):
            raise DamagedError("it has an unknown storage")
        name = dtype.name.rpartition(".")[2].removesuffix("Storage")
        storage = _Storage(name, str(key), count)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise DamagedError(f"storage {key} has two types")
        return storage


def _global(name: str) -> _Global:
    module, _, own = name.rpartition(".")
    kind = own.removesuffix("Storage")
    is_type = kind in DTYPES or kind in OTHER_DTYPES or own in OWN_DTYPES
    if name not in FUNCTIONS and not (module in ("torch", "torch.cuda") and is_type):
        raise UnknownGlobalError(name)
    return _Global(name)


def _with_arrays(content: Any, storages: Mapping[str, bytes], done: dict[int, Any]) -> Any:
    """Replace the descriptions of tensors in nested containers by arrays."""
    if isinstance(content, _Strided):
        storage = content.storage
        if storage.dtype not in DTYPES:
            return Other(storage.dtype, content.shape)
        row = np.frombuffer(storages[storage.key], f"<{DTYPES[storage.dtype]}", storage.count)
        if storage.dtype == "BFloat16":
            row = widen(row)
        strides = [stride * row.itemsize for stride in content.strides]
        part = np.lib.stride_tricks.as_strided(
            row[content.offset :], content.shape, strides, writeable=False
        )
        return part.copy()
    if isinstance(content, dict):
        if id(content) not in done:
            new: dict[Any, Any] = {}
            done[id(content)] = new
            new |= {key: _with_arrays(value, storages, done) for key, value in content.items()}
        return done[id(content)]
    return content
