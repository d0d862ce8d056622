"""Patterns of layers in the graph of a functional model, found by wiring and settings.

A pattern lists the layers of a block by role, what each takes, and which settings it may have. What
it does not mention must be as Keras has it by default: a setting that nobody thought of, or that a
later Keras adds, is no match. Names of layers play no part.
"""

import functools
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

INPUT = "x"  # what a pattern is of
IN_ANY_ORDER = (keras.layers.Add, keras.layers.Multiply)
WITHOUT_EFFECT = ("name", "trainable", "seed", "data_format")  # or looked at elsewhere


@dataclass(frozen=True)
class Part:
    """One layer or operation of a pattern.

    Args:
        kind: its exact type; a subclass may compute something else.
        inputs: what it takes: `INPUT`, or a role, with `role:1` for the output after the first.
        free: settings that may have any value.
        settings: settings that have no default, or must have another value.
    """

    kind: type
    inputs: tuple[str, ...]
    free: frozenset[str]
    settings: tuple[tuple[str, Any], ...]

    def fits(self, node: Any) -> bool:
        """Whether a node of a graph calls such a layer, with nothing but tensors, unmasked and, if
        the dtype is not free, in float32."""
        operation, arguments = node.operation, node.arguments
        if type(operation) is not self.kind or len(arguments.args) != 1:
            return False
        if not all(value is None or value is False for value in arguments.kwargs.values()):
            return False  # such as training=True
        for tensor in (*node.input_tensors, *node.outputs):
            if getattr(tensor, "_keras_mask", None) is not None:
                return False
            if tensor.dtype != "float32" and "dtype" not in self.free:
                return False
        return self._settings_fit(operation, len(node.outputs[0].shape))

    def _settings_fit(self, operation: Any, rank: int) -> bool:
        plain = _plain(self)
        if "activation" not in self.free:
            functions = (getattr(layer, "activation", None) for layer in (operation, plain))
            if len(set(functions)) > 1:  # even where two functions have the same name
                return False
        try:
            own = operation.get_config()
        except (TypeError, ValueError):  # it holds what Keras cannot write down
            return False
        if own.pop("data_format", "channels_last") != "channels_last":  # its default can be set
            return False
        return _compared(own, self.free, rank) == _compared(plain.get_config(), self.free, rank)


def part(kind: type, *inputs: str, free: str = "", **settings: Any) -> Part:
    """A `Part`; without `inputs` it takes `INPUT`. `free` has spaces between its names."""
    return Part(kind, inputs or (INPUT,), frozenset(free.split()), tuple(settings.items()))


@functools.cache
def _plain(own: Part) -> Any:
    """A layer or an operation with the settings of a part, and else with Keras' defaults."""
    settings = dict(own.settings)
    if issubclass(own.kind, keras.layers.Layer):
        settings["dtype"] = "float32"
    state = random.getstate()
    try:
        return own.kind(**settings, name="plain")
    finally:
        random.setstate(state)  # its initializers have drawn seeds


def _compared(config: dict[str, Any], free: frozenset[str], rank: int) -> dict[str, Any]:
    """The settings that matter, with axes as a list of numbers that are not negative."""
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
    """A pattern found in a graph: its operations by role, and the tensors at its ends."""

    nodes: dict[str, Any]
    input: keras.KerasTensor
    output: keras.KerasTensor

    @property
    def layers(self) -> dict[str, Any]:
        return {role: node.operation for role, node in self.nodes.items()}


class Graph:
    """The calls of layers and operations between the ends of a functional model, in their order."""

    def __init__(self, model: keras.Model):
        self.nodes: list[Any] = []
        self.outputs = {tensor._keras_history for tensor in keras.tree.flatten(model.output)}
        self.takers: dict[Any, list[Any]] = defaultdict(list)  # of a tensor, by its history
        self.calls: dict[Any, int] = defaultdict(int)  # of an operation
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
        """Whether none but `nodes` take these tensors, and none of them is an output."""
        histories = [tensor._keras_history for tensor in tensors]
        return not self.outputs & {*histories} and all(
            nodes.issuperset(self.takers[history]) for history in histories
        )

    def follower(self, node: Any) -> Any:
        """The node that alone takes what a layer, called once, puts out; None if there is none."""
        takers = self.takers[node.outputs[0]._keras_history]
        alone = len(takers) == 1 and self.within({*takers}, node.outputs)
        return takers[0] if alone and self.calls[node.operation] == 1 else None

    def find(self, pattern: dict[str, Part]) -> Iterator[Match]:
        """Where a pattern is, by the node of its last role: each layer in it is called once, and
        what is between its layers is taken by these alone."""
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
    """The node that puts out a tensor: one call of a layer or an operation."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _bind(pattern: dict[str, Part], name: str, tensor: keras.KerasTensor, bound: dict) -> Iterator:
    """Each way to add to `bound`, role -> node, so that what is called `name` is `tensor`."""
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
