"""Patterns of layers in the graph of a functional model, found by connections and settings.

A pattern is a dict from roles to parts. Each part gives the type of a layer, its inputs and its
settings. All other settings must have Keras' default values, including settings that a later
release of Keras adds. The names of layers do not matter.
"""

import functools
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

INPUT = "x"  # the input of a pattern
IN_ANY_ORDER = (keras.layers.Add, keras.layers.Multiply)
WITHOUT_EFFECT = ("name", "trainable", "seed", "data_format")  # `_settings_fit` checks the last


@dataclass(frozen=True)
class Part:
    """One layer or operation of a pattern.

    Args:
        kind: the exact type. A subclass does not match, because it may compute something else.
        inputs: the inputs: `INPUT` or roles. `role:1` is the second output of a role.
        free: the names of the settings that may have any value.
        settings: the settings without a default, or with another value than the default.
    """

    kind: type
    inputs: tuple[str, ...]
    free: frozenset[str]
    settings: tuple[tuple[str, Any], ...]

    def fits(self, node: Any) -> bool:
        """Whether a node of a graph calls a layer of this kind with these settings.

        The call must have no other arguments than tensors, and no masks. All tensors must be in
        float32, unless the dtype is free. A layer may take bfloat16, which it casts to float32.
        """
        operation, arguments = node.operation, node.arguments
        if type(operation) is not self.kind or len(arguments.args) != 1:
            return False
        if not all(value is None or value is False for value in arguments.kwargs.values()):
            return False  # such as training=True
        for tensor in (*node.input_tensors, *node.outputs):
            if getattr(tensor, "_keras_mask", None) is not None:
                return False
            if not keras.backend.is_float_dtype(tensor.dtype):
                return False
        if "dtype" not in self.free:
            casts = isinstance(operation, keras.layers.Layer)  # to its own dtype
            taken = {"float32", "bfloat16"} if casts else {"float32"}
            if any(tensor.dtype not in taken for tensor in node.input_tensors):
                return False
            if any(tensor.dtype != "float32" for tensor in node.outputs):
                return False
        return self._settings_fit(operation, len(node.outputs[0].shape))

    def _settings_fit(self, operation: Any, rank: int) -> bool:
        plain = _plain(self)
        if "activation" not in self.free:
            functions = (getattr(layer, "activation", None) for layer in (operation, plain))
            if len(set(functions)) > 1:  # two functions may have the same name
                return False
        try:
            own = operation.get_config()
        except (TypeError, ValueError):  # a setting cannot be serialized
            return False
        if (
            own.pop("data_format", "channels_last") != "channels_last"
        ):  # keras.json sets the default
            return False
        return _compared(own, self.free, rank) == _compared(plain.get_config(), self.free, rank)


def part(kind: type, *inputs: str, free: str = "", **settings: Any) -> Part:
    """Make a `Part`.

    Args:
        kind: as for `Part`.
        *inputs: as for `Part`. Default: `INPUT`.
        free: names of settings, with spaces between them.
        **settings: as for `Part`.
    """
    return Part(kind, inputs or (INPUT,), frozenset(free.split()), tuple(settings.items()))


@functools.cache
def _plain(own: Part) -> Any:
    """A layer or an operation with the settings of a part, and Keras' defaults for all others."""
    settings = dict(own.settings)
    if issubclass(own.kind, keras.layers.Layer):
        settings["dtype"] = "float32"
    state = random.getstate()
    try:
        return own.kind(**settings, name="plain")
    finally:
        random.setstate(state)  # the initializers drew seeds from the global generator


def _compared(config: dict[str, Any], free: frozenset[str], rank: int) -> dict[str, Any]:
    """The settings to compare. Axes become a sorted list of non-negative numbers."""
    left = {
        key: value
        for key, value in config.items()
        if key not in free and key not in WITHOUT_EFFECT and not key.endswith("_initializer")
    }
    if "axis" in left:
        axes = left["axis"] if isinstance(left["axis"], (list, tuple)) else [left["axis"]]
        left["axis"] = sorted(axis % rank for axis in axes)
    return left


@dataclass(frozen=True)
class Match:
    """A pattern found in a graph: its nodes by role, its input and its output."""

    nodes: dict[str, Any]
    input: keras.KerasTensor
    output: keras.KerasTensor

    @property
    def layers(self) -> dict[str, Any]:
        """The layers and operations by role."""
        return {role: node.operation for role, node in self.nodes.items()}


class Graph:
    """The calls of layers and operations in a functional model, in topological order.

    Args:
        model: the model.

    Attributes:
        nodes: the calls.
        outputs: the histories of the outputs of the model.
        takers: from the history of a tensor to the nodes that take the tensor as an input.
        calls: from an operation to the number of its calls.
    """

    def __init__(self, model: keras.Model):
        self.nodes: list[Any] = []
        self.outputs = {tensor._keras_history for tensor in keras.tree.flatten(model.output)}
        self.takers: dict[Any, list[Any]] = defaultdict(list)
        self.calls: dict[Any, int] = defaultdict(int)
        todo = [source(tensor) for tensor in keras.tree.flatten(model.output)]
        seen: set[Any] = set()
        while todo:
            node = todo[-1]
            before = [source(tensor) for tensor in node.input_tensors]
            waiting = [other for other in before if other not in seen]
            todo += waiting
            if not waiting:
                todo.pop()
                if node not in seen:
                    self._add(node)
                seen.add(node)

    def _add(self, node: Any) -> None:
        self.nodes.append(node)
        self.calls[node.operation] += 1
        for tensor in node.input_tensors:
            self.takers[tensor._keras_history].append(node)

    def within(self, nodes: set[Any], tensors: list[keras.KerasTensor]) -> bool:
        """Whether only `nodes` take `tensors`, and no tensor is an output of the model."""
        histories = [tensor._keras_history for tensor in tensors]
        return not self.outputs & {*histories} and all(
            nodes.issuperset(self.takers[history]) for history in histories
        )

    def follower(self, node: Any) -> Any:
        """The only node that takes the output of `node`.

        The result is None if several nodes take the output, if it is an output of the model, or if
        the layer of `node` is called more than once.
        """
        takers = self.takers[node.outputs[0]._keras_history]
        alone = len(takers) == 1 and self.within({*takers}, node.outputs)
        return takers[0] if alone and self.calls[node.operation] == 1 else None

    def find(self, pattern: dict[str, Part]) -> Iterator[Match]:
        """Find a pattern in the graph.

        Every layer of a match is called once. The tensors between its layers are inputs of these
        layers only.
        """
        last = list(pattern)[-1]
        for node in self.nodes:
            for bound in _bind(pattern, last, node.outputs[0], {}):
                nodes = {role: bound[role] for role in pattern}
                if self._closed(nodes, last):
                    yield Match(nodes, bound[INPUT], node.outputs[0])
                    break

    def _closed(self, nodes: dict[str, Any], last: str) -> bool:
        own = set(nodes.values())
        if len(own) < len(nodes) or any(self.calls[node.operation] > 1 for node in own):
            return False
        return self.within(own, [t for node in own - {nodes[last]} for t in node.outputs])


def source(tensor: keras.KerasTensor) -> Any:
    """The node whose output is `tensor`: one call of a layer or an operation."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _bind(pattern: dict[str, Part], name: str, tensor: keras.KerasTensor, bound: dict) -> Iterator:
    """Yield each extension of `bound`, a dict from roles to nodes, in which `name` is `tensor`."""
    role, _, position = name.partition(":")
    if role == INPUT:
        if bound.get(INPUT, tensor)._keras_history == tensor._keras_history:
            yield bound | {INPUT: tensor}
        return
    node, own = source(tensor), pattern[role]
    if tensor._keras_history.tensor_index != int(position or 0):
        return
    if role in bound:
        if bound[role] is node:
            yield bound
        return
    given = node.input_tensors
    if len(given) != len(own.inputs) or not own.fits(node):
        return
    orders = itertools.permutations(own.inputs) if own.kind in IN_ANY_ORDER else [own.inputs]
    for order in orders:
        ways: list[dict] = [bound | {role: node}]
        for name, tensor in zip(order, given, strict=True):
            ways = [more for way in ways for more in _bind(pattern, name, tensor, way)]
        yield from ways
