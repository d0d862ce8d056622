"""A check that the fused twin of a net computes the same function. The images are noise.

The check adds noise to every weight, because a new net would hide errors. The layer scales of a new
net are 1e-6, and its biases are zero. The check runs in a `StatelessScope` and changes no variable.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

IMAGES = 2
SIZE = 32  # height and width of an image if the net accepts any
SHAKE = 0.1  # standard deviation of the noise that is added to weights
ANSWERS = 1e-3  # allowed difference of logits, as a share of the largest logit
STATES = 1e-2  # allowed difference of moving statistics after training, as a share of their norm
# Gradients are compared by their norms. Where the input of a ReLU is close to zero, rounding can
# change its sign. That changes single elements of a gradient, but hardly the norm.
GRADIENTS = 0.05  # allowed difference of a weight's gradient, as a share of its norm
ROUNDING = 1e-4  # ignored difference of gradients, as a share of the norm of the largest gradient

Values = dict[int, tuple[keras.Variable, Any]]  # variables and their values in the check, by id


_known: dict[
    tuple[str, bool], str | None
] = {}  # results, by configuration of the net and `training`


def fault(net: keras.Model, twin: keras.Model, training: bool = True) -> str | None:
    """Check the twin of a net. Nets of the same configuration are checked only once.

    Args:
        net: the net.
        twin: its twin.
        training: whether to check the outputs, moving statistics and gradients of training too.

    Returns:
        None if the twin computes the same function. Otherwise the end of the sentence "The twin
        ...", such as "differs in its gradients in training".
    """
    try:
        key = (json.dumps(net.get_config()), training)
    except (TypeError, ValueError):  # a layer that cannot be serialized
        return _fault(net, twin, training)
    if key not in _known:
        _known[key] = _fault(net, twin, training)
    return _known[key]


def _fault(net: keras.Model, twin: keras.Model, training: bool) -> str | None:
    rng = np.random.default_rng(0)
    shape = (IMAGES, *(SIZE if length is None else length for length in net.input_shape[1:]))
    images = rng.integers(256, size=shape).astype(net.input.dtype)
    values = _shaken(net, rng)
    trained = {id(v) for v in net.trainable_variables}
    if trained != {id(v) for v in twin.trainable_variables}:
        return "trains other weights"
    try:
        with _without_dropout(net):
            for mode, ask in (("inference", _answer), ("training", _learn))[: 1 + training]:
                own, other = (ask(net, model, values, images) for model in (net, twin))
                found = _difference(own, other)
                if found:
                    return f"{found} in {mode}"
    except Exception as error:  # such as an error of Numba's compiler
        return f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return None


def _difference(own: tuple, other: tuple) -> str | None:
    (wanted, states, gradients), (answers, other_states, other_gradients) = own, other
    most, apart = np.abs(wanted).max(), np.abs(answers - wanted).max()
    if not (apart <= ANSWERS * most < np.inf):  # false for NaN
        return f"has logits that differ by {apart:.2g}, where the largest is {most:.2g},"
    if not _alike(states, other_states, STATES):
        return "differs in its batch norms"
    if not _alike(gradients, other_gradients, GRADIENTS, ROUNDING):
        return "differs in its gradients"
    return None


def _alike(own: list, other: list, share: float, rounding: float = 0) -> bool:
    own, other = ([np.float64(array) for array in arrays] for arrays in (own, other))
    norms = [np.linalg.norm(array) for array in own]  # float64: no overflow
    least = rounding * max(norms, default=0)
    return bool(np.isfinite(norms).all()) and all(
        np.linalg.norm(a - b) <= share * norm + least
        for a, b, norm in zip(own, other, norms, strict=True)
    )


def _shaken(net: keras.Model, rng: np.random.Generator) -> Values:
    """The variables of a net and their values plus noise. Moving variances stay positive."""
    values = {}
    for variable in net.variables:
        value = keras.ops.convert_to_numpy(variable)
        if keras.backend.is_float_dtype(variable.dtype):
            noise = SHAKE * rng.standard_normal(value.shape)
            value = value + (noise if variable.trainable else np.abs(noise))
        values[id(variable)] = variable, keras.ops.convert_to_tensor(value, variable.dtype)
    return values


@contextlib.contextmanager
def _without_dropout(net: keras.Model) -> Iterator[None]:
    """The context without dropout. The twin would draw other dropout masks than the net."""
    layers = [layer for layer in net.layers if type(layer) is keras.layers.Dropout]
    rates = [layer.rate for layer in layers]
    try:
        for layer in layers:
            layer.rate = 0
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def _call(model: keras.Model, values: Values, images: np.ndarray, training: bool) -> tuple:
    """The outputs of a model, and the scope with the values of the variables after the call."""
    with keras.StatelessScope(list(values.values())) as scope:
        return model(images, training=training), scope


def _answer(net: keras.Model, model: keras.Model, values: Values, images: np.ndarray) -> tuple:
    answers, _ = _call(model, values, images, training=False)
    return keras.ops.convert_to_numpy(answers), [], []


def _learn(net: keras.Model, model: keras.Model, values: Values, images: np.ndarray) -> tuple:
    """The outputs in training mode, the moving statistics after it, and the gradients."""
    if keras.backend.backend() == "jax":  # gradients of the net would take minutes under JAX
        answers, scope = _call(model, values, images, training=True)
        gradients: list = []
    else:
        import tensorflow as tf

        weights = [values[id(v)][1] for v in net.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            answers, scope = _call(model, values, images, training=True)
            direction = np.random.default_rng(1).standard_normal(answers.shape)
            loss = tf.reduce_sum(answers * tf.cast(direction, answers.dtype))
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
    states = [
        scope.get_current_value(variable)
        for variable in net.non_trainable_variables
        if keras.backend.is_float_dtype(variable.dtype)
    ]
    return tuple(
        keras.tree.map_structure(keras.ops.convert_to_numpy, found)
        for found in (answers, states, gradients)
    )
