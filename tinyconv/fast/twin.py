"""The fused twin of a net: a model with fused blocks, which shares the variables of the net."""

import random
from typing import Any

import keras
from numba.core.event import Event, Listener, install_listener

from tinyconv import terminal
from tinyconv.fast import proof
from tinyconv.fast.batchnorm import OneBatchNorm
from tinyconv.fast.bottleneck import Bottleneck
from tinyconv.fast.chain import Chain
from tinyconv.fast.gated import Gated
from tinyconv.fast.grouped import Grouped
from tinyconv.fast.norm import Norm
from tinyconv.graph import Graph

BLOCKS = (Bottleneck, Gated, Grouped, Norm)
MIXED = "mixed_bfloat16"


class Fused(keras.layers.Layer):
    """A chain of fused blocks, as a Keras layer. It uses the variables of the layers it replaces.

    Args:
        parts: (block, match) of each block of the chain.
    """

    def __init__(self, parts):
        _, last = parts[-1]
        super().__init__(name=f"{last.nodes[list(last.nodes)[-1]].operation.name}_fused")
        self.blocks = [block(match.layers) for block, match in parts]
        self.stock = [
            {role: layer for role, layer in match.layers.items() if _has_weights(layer)}
            for _, match in parts
        ]
        self.dropout = [match.layers.get("dropout") for _, match in parts]
        self.shape = last.output.shape
        self.built = True

    def call(self, x, training=False):
        drops = [bool(training and layer and layer.rate) for layer in self.dropout]
        none = keras.ops.zeros((2,), "uint32")
        seeds = [
            layer.seed_generator.next() if drop else none
            for layer, drop in zip(self.dropout, drops, strict=True)
        ]
        weights = [
            keras.ops.convert_to_tensor(getattr(stock[role], weight))
            for block, stock in zip(self.blocks, self.stock, strict=True)
            for role, weight in block.weights
        ]
        chain = Chain(self.blocks, drops if training else None)
        return chain(self.shape, keras.ops.stack(seeds), x, *weights)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.shape[1:])


def _has_weights(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and bool(operation.weights)


def _chains(graph: Graph) -> list[list[tuple]]:
    """The chains of a graph, as (block, match) of each block.

    The output of a block within a chain is an input of the next block only.
    """
    found: dict[Any, tuple] = {}
    taken: set[Any] = set()
    for block in BLOCKS:
        for match in graph.find(block.pattern):
            shape, own = match.input.shape[1:], set(match.nodes.values())
            images = len(shape) == 3 and None not in shape
            if images and not taken & own and block.fits(match.layers, shape):
                found[match.output._keras_history] = (block, match)
                taken |= own
    chains: dict[Any, list] = {}  # by the history of a chain's output
    for node in graph.nodes:
        for output in (tensor._keras_history for tensor in node.outputs):
            if output in found:
                _, match = found[output]
                alone = graph.within({*match.nodes.values()}, [match.input])
                chain = chains.pop(match.input._keras_history, []) if alone else []
                chains[output] = [*chain, found[output]]
    return list(chains.values())


def in_blocks(model: keras.Model) -> set[str]:
    """The names of the layers that fused blocks replace. The blocks compute in float32."""
    if keras.backend.backend() == "jax":
        return set()
    chains = _chains(Graph(model))
    return {layer.name for c in chains for _, match in c for layer in match.layers.values()}


def _in_float32(model: keras.Model) -> keras.Model:
    def copy(layer: keras.Operation) -> keras.Operation:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer) and layer.dtype_policy.name == MIXED:
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    state = random.getstate()
    clone = keras.models.clone_model(model, clone_function=copy)
    random.setstate(state)  # new layers drew seeds from the global generator
    clone.set_weights(model.get_weights())
    return clone


def _replaced(graph: Graph) -> dict[Any, tuple[Any, Any]]:
    """The layers that replace parts of a model.

    Returns:
        A dict. A key is the Keras history of a tensor of the model. Its value is the layer that
        computes this tensor in the twin, and the input of the layer.
    """
    if keras.backend.backend() == "jax":
        from tinyconv.fast.shifted import Shifted

        return _singles(graph, Shifted)
    chains = {
        chain[-1][1].output._keras_history: (Fused(chain), chain[0][1].input)
        for chain in _chains(graph)
    }
    return chains | _singles(graph, OneBatchNorm)


def _singles(graph: Graph, kind: Any) -> dict[Any, tuple[Any, Any]]:
    """The part of `_replaced` for single layers. A layer of type `kind` replaces each."""
    replaced = {}
    for match in (match for pattern in kind.patterns for match in graph.find(pattern)):
        (layer,) = match.layers.values()
        if kind.fits(layer, match.input.shape[1:]):
            replaced[match.output._keras_history] = (kind(layer), match.input)
    return replaced


def fused(model: keras.Model) -> keras.Model:
    """Make the twin of a model without checking it.

    Returns:
        The twin, or `model` itself if no layer can be replaced.
    """
    ends = (getattr(model, end, None) for end in ("input", "output"))
    stock = type(model).__module__.startswith("keras.")  # a subclass may have another `call`
    if not stock or not all(isinstance(end, keras.KerasTensor) for end in ends):
        return model
    replaced = _replaced(Graph(model))
    if not replaced:
        return model
    done = {model.input._keras_history: model.input}

    def value(tensor):
        """The tensor of the twin that corresponds to `tensor` of the model."""
        history = tensor._keras_history
        if history not in done:
            if history in replaced:
                layer, source = replaced[history]
                done[history] = layer(value(source))
            else:
                arguments = history.operation._inbound_nodes[history.node_index].arguments
                args, kwargs = keras.tree.map_structure(
                    lambda a: value(a) if isinstance(a, keras.KerasTensor) else a,
                    (arguments.args, arguments.kwargs),
                )
                outputs = keras.tree.flatten(history.operation(*args, **kwargs))
                for index, output in enumerate(outputs):
                    done[history._replace(tensor_index=index)] = output
        return done[history]

    return keras.Model(model.input, value(model.output), name=model.name)


class CompilationNote(Listener):
    """Prints a note when Numba compiles the first function of this process."""

    said = False

    def on_start(self, event: Event) -> None:
        if not CompilationNote.said:
            terminal.note(
                "Compiling kernels for this processor. This takes up to a minute, and later runs "
                "reuse the kernels."
            )
        CompilationNote.said = True

    def on_end(self, event: Event) -> None:
        pass


def twin(model: keras.Model, training: bool = True, mixed: bool = False) -> keras.Model:
    """Make the fused twin of a model, and check it.

    Args:
        model: a functional model.
        training: whether the twin will be trained. Otherwise only inference is checked, and no
            backward pass is compiled.
        mixed: whether layers in mixed precision may be replaced too. The check then compares copies
            in float32, because `model` and its twin round differently in bfloat16.

    Returns:
        A functional model that shares every variable with `model`. Its outputs are the same within
        1e-5, in float32. The function returns `model` itself if no layer can be replaced, or if
        `model` has several inputs or outputs. If the check fails, the function prints why and
        returns `model`.
    """
    if not mixed and any(layer.dtype_policy.name == MIXED for layer in model.layers):
        return model
    fast = fused(model)
    if fast is model:
        return model
    exact = _in_float32(model) if mixed else model
    with install_listener("numba:compile", CompilationNote()):
        fault = proof.fault(exact, fused(exact) if mixed else fast, training)
    if fault:
        terminal.note(f"{model.name} runs layer by layer: its fused twin {fault}.")
        return model
    return fast
