"""The fast twin of a net: the same weights, with chains of blocks as one operation."""

import itertools
from typing import Any

import keras

from tinyconv.fast.batchnorm import OneBatchNorm
from tinyconv.fast.bottleneck import Bottleneck
from tinyconv.fast.chain import Chain
from tinyconv.fast.downscale import Downscale
from tinyconv.fast.gated import Gated
from tinyconv.fast.grouped import Grouped
from tinyconv.fast.norm import Norm

BLOCKS = (Bottleneck, Downscale, Gated, Grouped, Norm)


class Fused(keras.layers.Layer):
    """Stock layers, by role and `block` after block, as one chain; it owns nothing but them."""

    def __init__(self, parts, name):
        super().__init__(name=name)
        self.blocks = [block(layers) for block, layers in parts]
        self.stock = [
            {role: layer for role, layer in layers.items() if layer.weights} for _, layers in parts
        ]
        self.dropout = [layers.get("dropout") for _, layers in parts]
        block, layers = parts[-1]
        self.shape = layers[block.roles[-1]].output.shape
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


def _used_once(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if len(layer._inbound_nodes) == 1]


def _fused(model: keras.Model) -> tuple[dict, dict]:
    """Layer name -> what stands for it, and -> what it takes: chains by their last layer."""
    layers = {layer.name: layer for layer in _used_once(model)}
    chains: dict[str, list] = {}
    taken: set[keras.layers.Layer] = set()
    for block, layer in itertools.product(BLOCKS, layers.values()):
        prefix = layer.name.removesuffix(block.roles[-1])
        own = {role: layers[prefix + role] for role in block.roles if prefix + role in layers}
        whole = len(own) == len(block.roles)
        whole &= all(layer.compute_dtype == "float32" for layer in own.values())
        if whole and not taken & {*own.values()} and block.fits(own):
            chains[layer.name] = [(block, own)]
            taken |= {*own.values()}
    for name in [layer.name for layer in model.layers if layer.name in chains]:
        block, own = chains[name][0]
        before = own[block.roles[0]].input._keras_history.operation
        if before.name in chains:
            chains[name] = chains.pop(before.name) + chains[name]
    fused = {name: Fused(parts, f"{name}_fused") for name, parts in chains.items()}
    sources = {name: parts[0][1][parts[0][0].roles[0]].input for name, parts in chains.items()}
    norms, inputs = _singles(model, OneBatchNorm)
    return fused | norms, sources | inputs


def _shifted(model: keras.Model) -> tuple[dict, dict]:
    from tinyconv.fast.shifted import Shifted

    return _singles(model, Shifted)


def _singles(model: keras.Model, kind: Any) -> tuple[dict, dict]:
    """The same of single layers for which a `kind` may stand."""
    layers = [layer for layer in _used_once(model) if kind.fits(layer)]
    return {x.name: kind(x) for x in layers}, {x.name: x.input for x in layers}


def twin(model: keras.Model) -> keras.Model:
    """`model` with what can be fused, or under JAX shifted, on the same variables.

    Returns:
        A functional model that shares every weight with `model` and answers the same within 1e-5;
        `model` itself if it has no such layers, or more than a tensor on either end.
    """
    ends = (getattr(model, end, None) for end in ("input", "output"))
    if not all(isinstance(end, keras.KerasTensor) for end in ends):
        return model
    fused, sources = _shifted(model) if keras.backend.backend() == "jax" else _fused(model)
    if not fused:
        return model
    done = {id(model.input): model.input}

    def value(tensor):
        """What stands for `tensor` of the model in its twin."""
        if id(tensor) not in done:
            operation, node, index = tensor._keras_history
            if operation.name in fused:
                outputs = fused[operation.name](value(sources[operation.name]))
            else:
                arguments = operation._inbound_nodes[node].arguments
                args, kwargs = keras.tree.map_structure(
                    lambda a: value(a) if isinstance(a, keras.KerasTensor) else a,
                    (arguments.args, arguments.kwargs),
                )
                outputs = operation(*args, **kwargs)
            done[id(tensor)] = keras.tree.flatten(outputs)[index]
        return done[id(tensor)]

    return keras.Model(model.input, value(model.output), name=model.name)
