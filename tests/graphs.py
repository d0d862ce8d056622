"""Small nets as lists of steps that a test can change: swap, rewire, share, reset."""

import copy
import functools
from dataclasses import dataclass, field

import keras
import numpy as np

from tinyconv.nets import cifar10_tiny, tiniest

SHAPE = (8, 8, 32)


@dataclass
class Step:
    """One call: of which class with which settings, on outputs (step, number) of steps before."""

    kind: type
    config: dict
    inputs: list
    call: dict = field(default_factory=dict)
    shared: int | None = None  # the step whose layer is called again


def steps_of(model):
    """The steps of a functional model of stock layers; the first is its input."""
    steps, places = [], {}
    for node in sorted_nodes(model):
        operation = node.operation
        inputs = [places[tensor._keras_history] for tensor in node.input_tensors]
        steps.append(Step(type(operation), operation.get_config(), inputs))
        for number, tensor in enumerate(node.outputs):
            places[tensor._keras_history] = (len(steps) - 1, number)
    return steps


def sorted_nodes(model):
    nodes = []

    def visit(tensor):
        node = tensor._keras_history.operation._inbound_nodes[tensor._keras_history.node_index]
        for before in node.input_tensors:
            visit(before)
        if node not in nodes:
            nodes.append(node)

    visit(model.output)
    return nodes


def build(steps, heads=()):
    """A model of steps, its layers under new names; `heads` are outputs that are added to it."""
    layers, values = [], []
    for number, step in enumerate(steps):
        if step.kind is keras.layers.InputLayer:
            layers.append(None)
            values.append([keras.Input(step.config["batch_shape"][1:])])
            continue
        if step.shared is None:
            layers.append(step.kind(**step.config | {"name": f"layer{number}"}))
        else:
            layers.append(layers[step.shared])
        given = [values[i][j] for i, j in step.inputs]
        merges = issubclass(step.kind, keras.src.layers.merging.base_merge.Merge)
        outputs = layers[-1](given if merges else given[0], **step.call)
        values.append(keras.tree.flatten(outputs))
    outputs = [values[-1][0], *(values[i][j] for i, j in heads)]
    pooled = [keras.layers.GlobalAveragePooling2D()(output) for output in outputs]
    joined = keras.layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(values[0][0], joined)


@functools.cache
def stock_steps(kind):
    """The steps of a block of one kind, between a batch norm and another layer."""
    image = keras.Input(SHAPE)
    x = image
    if kind == "bottleneck":
        x = cifar10_tiny.bottleneck(x, 32, 2, "a")
    elif kind == "gated":
        x = tiniest.block(x, 32, "a")
    elif kind == "grouped":
        x = keras.layers.ZeroPadding2D(1)(x)
        x = tiniest.conv(x, 32, 4, "conv", stride=2, groups=16)
    elif kind == "norm":
        x = keras.layers.LayerNormalization()(x)
    else:
        x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("tanh")(x)
    steps = steps_of(keras.Model(image, x))
    for step in steps:
        if step.kind is keras.layers.Dropout:
            step.config["rate"] = 0  # else the bits of the twin are not those of the net
    return steps


KINDS = ("bottleneck", "gated", "grouped", "norm", "batchnorm")
SETTINGS = {
    "strides": [1, 2, 3],
    "padding": ["same", "valid", 0, 1, 2, ((0, 2), (1, 1))],
    "kernel_size": [1, 2, 3, 4, 5, 7],
    "pool_size": [2, 3],
    "dilation_rate": [1, 2, 3],
    "depth_multiplier": [1, 2, 3],
    "groups": [1, 8, 16],
    "filters": [16, 32, 48],
    "units": [1, 16, 32, 64],
    "axis": [-1, 1, 2, 3, [-1], [1, 2], [1, 2, 3]],
    "epsilon": [1e-6, 1e-2, 1.0],
    "momentum": [0.5, 0.9],
    "center": [False],
    "scale": [False],
    "rms_scaling": [True],
    "renorm": [True],
    "use_bias": [True, False],
    "rate": [0, 0.5],
    "noise_shape": [(None, 1, 1, 1)],
    "activation": ["linear", "relu", "gelu", "tanh", "exponential", "sigmoid", "swish", "own"],
    "indices_or_sections": [2, 4, (8, 16, 24), (4, 16, 24)],
    "activity_regularizer": ["l2"],
    "kernel_regularizer": ["l2"],
    "depthwise_regularizer": ["l2"],
    "gamma_regularizer": ["l2"],
    "kernel_constraint": ["non_neg"],
    "trainable": [False],
    "dtype": ["float64"],
}
OTHERS = {
    keras.layers.Add: [keras.layers.Subtract, keras.layers.Average, keras.layers.Maximum],
    keras.layers.Multiply: [keras.layers.Add, keras.layers.Minimum],
    keras.layers.MaxPooling2D: [keras.layers.AveragePooling2D],
    keras.layers.AveragePooling2D: [keras.layers.MaxPooling2D],
}


def gelu(x):
    """Of the name of another function."""
    return keras.activations.gelu(x, approximate=True) * 2


def another(kind):
    """A subclass that computes something else."""

    class Another(kind):
        def call(self, *args, **kwargs):
            return keras.tree.map_structure(lambda y: 2 * y, super().call(*args, **kwargs))

    return Another


def mutate(steps, draw):
    """Change one thing in `steps`, in place, as `draw(list)` chooses; returns what, and outputs."""
    heads, inner = [], range(1, len(steps))
    how = draw(
        ["setting"] * 6 + ["swap", "rewire", "head", "skip", "kind", "call", "share", "order"]
    )
    number = draw(list(inner))
    step = steps[number]
    if how == "setting":
        names = [key for key in SETTINGS if key in step.config or key.endswith(("izer", "raint"))]
        name = draw(names)
        value = draw(SETTINGS[name])
        step.config[name] = gelu if value == "own" else value
        return (how, number, step.kind.__name__, name, value), heads
    if how == "swap":
        other = steps[draw(list(inner))]
        step.kind, other.kind = other.kind, step.kind
        step.config, other.config = other.config, step.config
    elif how in ("rewire", "skip"):
        earlier = [(i, 0) for i in range(number)]
        step.inputs[draw(list(range(len(step.inputs))))] = draw(earlier)
        if how == "skip":
            steps.append(Step(keras.layers.Add, {}, [(len(steps) - 1, 0), draw(earlier)]))
    elif how == "head":
        heads.append((number, 0))
    elif how == "kind":
        step.kind = draw([another(step.kind), *OTHERS.get(step.kind, ())])
    elif how == "call":
        step.call["training"] = True
    elif how == "share":
        step.shared = draw(list(range(1, number + 1)))
        step.shared = None if step.shared == number else step.shared
    elif how == "order":
        step.inputs = draw([step.inputs[::-1], step.inputs * 2, step.inputs[1:] + step.inputs[:1]])
    return (how, number, step.kind.__name__), heads


def changed(kind, draw, times):
    """A net with a block of this kind to which something was done, and what."""
    steps = [copy.deepcopy(step) for step in stock_steps(kind)]
    done, heads = [], []
    for _ in range(times):
        what, more = mutate(steps, draw)
        done.append(what)
        heads += more
    return build(steps, heads), done


def shake(model):
    """Give every weight a part in what the model does; variances stay positive."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = 0.1 * rng.standard_normal(weight.shape)
        weight.assign(weight + (noise if weight.trainable else abs(noise)))
