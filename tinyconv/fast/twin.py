"""The fast twin of a net: the same weights, with whole blocks as one operation each."""

import keras

from tinyconv.fast import ops
from tinyconv.fast.bottleneck import Bottleneck
from tinyconv.fast.downscale import Downscale
from tinyconv.fast.gated import Gated
from tinyconv.fast.grouped import Grouped
from tinyconv.fast.norm import Norm

BLOCKS = (Bottleneck, Downscale, Gated, Grouped, Norm)


class Fused(keras.layers.Layer):
    """Stock layers, by role, computed as one `block`; it owns nothing but these layers."""

    def __init__(self, block, layers, name):
        super().__init__(name=name)
        self.block = block(layers)
        self.stock = {role: layer for role, layer in layers.items() if layer.weights}
        self.dropout = layers.get("dropout")
        self.shape = layers[block.roles[-1]].output.shape
        self.built = True

    def call(self, x, training=False):
        dropout = bool(training and self.dropout)
        seed = self.dropout.seed_generator.next() if dropout else keras.ops.zeros((2,), "uint32")
        weights = (getattr(self.stock[role], weight) for role, weight in self.block.weights)
        weights = (keras.ops.convert_to_tensor(weight) for weight in weights)
        return ops.fused(self.block, seed, dropout, self.shape, x, *weights)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.shape[1:])


def _fused(model: keras.Model) -> tuple[dict, dict]:
    """Layer name -> what stands for it, and -> what it takes: blocks by their last layer."""
    layers = {layer.name: layer for layer in model.layers}
    fused: dict[str, keras.layers.Layer] = {}
    sources: dict[str, keras.KerasTensor] = {}
    taken: set[keras.layers.Layer] = set()
    for block in BLOCKS:
        for layer in model.layers:
            prefix = layer.name.removesuffix(block.roles[-1])
            own = {role: layers[prefix + role] for role in block.roles if prefix + role in layers}
            whole = len(own) == len(block.roles)
            if whole and not taken & {*own.values()} and block.fits(own):
                fused[layer.name] = Fused(block, own, f"{layer.name}_fused")
                sources[layer.name] = own[block.roles[0]].input
                taken |= {*own.values()}
    return fused, sources


def _shifted(model: keras.Model) -> tuple[dict, dict]:
    """The same of single convolutions."""
    from tinyconv.fast.shifted import Shifted

    layers = [layer for layer in model.layers if Shifted.fits(layer)]
    return {x.name: Shifted(x) for x in layers}, {x.name: x.input for x in layers}


def twin(model: keras.Model) -> keras.Model:
    """`model` with what can be fused, or under JAX shifted, on the same variables.

    Returns:
        A functional model that shares every weight with `model` and answers the same within 1e-5;
        `model` itself if it has no such layers.
    """
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
