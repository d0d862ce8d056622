"""Whether the fast twin of a net is the same function: both are asked about noise.

Every weight is shaken first, for a fresh net hides much: layer scales start at a millionth, offsets
at zero. No variable changes: inside a `StatelessScope` they only seem to.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

IMAGES = 2
SIZE = 32  # of an image where the net takes any
SHAKE = 0.1  # standard deviation of what is added to weights
ANSWERS = 1e-3  # how far logits may be apart, as a share of the largest
STATES = 1e-2  # and what training leaves in a batch norm, as a share of its norm
# Gradients are compared by their norms: a ReLU of a number next to zero that is on in the one and
# off in the other changes single numbers at will, but little of all.
GRADIENTS = 0.05  # how far that of a weight may be apart, as a share of its norm
ROUNDING = 1e-4  # what is less is nothing, as a share of the norm of the largest gradient

Values = dict[int, tuple[keras.Variable, Any]]  # what variables seem to be, by their id


_known: dict[tuple[str, bool], str | None] = {}  # faults, by the configuration of the net


def fault(net: keras.Model, twin: keras.Model, training: bool = True) -> str | None:
    """What is wrong with the twin of a net: the predicate of a sentence, or None.

    Nets of one configuration have twins of one kind, so each configuration is checked once.

    Args:
        net: the net.
        twin: its twin.
        training: check the answers, statistics and gradients of training, too.
    """
    try:
        key = (json.dumps(net.get_config()), training)
    except (TypeError, ValueError):  # a layer that cannot be written down
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
    except Exception as error:  # of a compiler, say; the net itself needs none
        return f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return None


def _difference(own: tuple, other: tuple) -> str | None:
    (wanted, states, gradients), (answers, other_states, other_gradients) = own, other
    most, apart = np.abs(wanted).max(), np.abs(answers - wanted).max()
    if not (apart <= ANSWERS * most < np.inf):  # a NaN is not
        return f"differs by {apart:.2g} of at most {most:.2g}"
    if not _alike(states, other_states, STATES):
        return "differs in its batch norms"
    if not _alike(gradients, other_gradients, GRADIENTS, ROUNDING):
        return "differs in its gradients"
    return None


def _alike(own: list, other: list, share: float, rounding: float = 0) -> bool:
    own, other = ([np.float64(array) for array in arrays] for arrays in (own, other))
    norms = [np.linalg.norm(array) for array in own]  # in float32 they may be infinite
    least = rounding * max(norms, default=0)
    return bool(np.isfinite(norms).all()) and all(
        np.linalg.norm(a - b) <= share * norm + least
        for a, b, norm in zip(own, other, norms, strict=True)
    )


def _shaken(net: keras.Model, rng: np.random.Generator) -> Values:
    """The variables of a net and what they are now, but for noise; variances stay positive."""
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
    """The context in which nothing is dropped: the twin's bits are not those of the net."""
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
    """The answers of a model, and the scope that knows what the variables would be after."""
    with keras.StatelessScope(list(values.values())) as scope:
        return model(images, training=training), scope


def _answer(net: keras.Model, model: keras.Model, values: Values, images: np.ndarray) -> tuple:
    answers, _ = _call(model, values, images, training=False)
    return keras.ops.convert_to_numpy(answers), [], []


def _learn(net: keras.Model, model: keras.Model, values: Values, images: np.ndarray) -> tuple:
    """The answers in training, what it leaves in the variables, and the gradients of weights."""
    if keras.backend.backend() == "jax":  # whose gradients of the net would take minutes
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
