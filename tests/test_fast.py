"""The fast twin answers, learns and draws as the net that it stands for."""

import math

import keras
import numba
import numpy as np
import pytest
import tensorflow as tf
from conftest import run

from tinyconv import create_model
from tinyconv.fast import kernels, tiles
from tinyconv.fast.batchnorm import OneBatchNorm
from tinyconv.fast.twin import Fused, twin

FUSED = {"cifar10_tiny": 11, "cifar10_tiny_half": 11, "tiniest": 9}  # blocks
CHAINS = {(32, 32): 1, (18, 12): 2}  # 9x6 pixels cannot be halved: that downscale is not fused


def shaken(name, **options):
    """A net whose every weight matters: layer scales start at a millionth."""
    keras.utils.set_random_seed(0)  # of other weights, a slope may be too near zero to compare
    net = create_model(name, **options)
    rng = np.random.default_rng(0)
    for weight in net.trainable_variables:
        weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
    return net


def images(count, *shape):
    return np.random.default_rng(1).integers(256, size=(count, *shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("shape", CHAINS)
@pytest.mark.parametrize("training", [False, True])
def test_same_answers_and_gradients(name, shape, training):
    net = shaken(name, input_shape=(*shape, 3))
    for layer in net.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    fast = twin(net)
    chains = [layer.blocks for layer in fast.layers if isinstance(layer, Fused)]
    assert len(chains) == (1 if name == "tiniest" else CHAINS[shape])
    assert sum(map(len, chains)) == FUSED[name]
    assert {id(v) for v in fast.trainable_variables} == {id(v) for v in net.trainable_variables}
    x, labels = images(9, *shape), np.arange(9)
    answers, gradients = [], []
    for model in (net, fast):
        with tf.GradientTape() as tape:
            logits = model(x, training=training)
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            mean = tf.reduce_mean(loss)
        answers.append(logits.numpy())
        gradients.append(tape.gradient(mean, [v.value for v in net.trainable_variables]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)
    for variable, stock, fused in zip(net.trainable_variables, *gradients, strict=True):
        limit = 1e-4 * abs(stock.numpy()).max()
        np.testing.assert_allclose(fused, stock, rtol=0, atol=limit, err_msg=variable.path)


def test_norms_of_another_kind_are_left_alone():
    image = keras.Input((8, 8, 8))
    x = keras.layers.LayerNormalization(axis=1, name="a_norm")(image)
    x = keras.layers.LayerNormalization(scale=False, name="b_norm")(x)
    model = keras.Model(image, keras.layers.LayerNormalization(center=False, name="c_norm")(x))
    assert twin(model) is model


def test_layers_of_the_same_names_that_do_something_else_are_left_alone():
    image = keras.Input((8, 8, 32))
    x = keras.layers.ZeroPadding2D(1, name="a_pad")(image)
    x = keras.layers.Conv2D(32, 4, 2, groups=16, activation="relu", name="a_conv")(x)
    model = keras.Model(image, x)
    assert twin(model) is model


def test_other_precision_is_left_to_keras():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = create_model("cifar10_tiny_half")
    finally:
        keras.config.set_dtype_policy(policy)
    assert twin(net) is net


def test_a_net_without_such_blocks_is_its_own_twin():
    net = create_model("test_vit")
    assert twin(net) is net


def test_a_layer_that_is_used_twice_is_left_alone():
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization()
    model = keras.Model(image, norm(norm(image)))
    assert twin(model) is model


@pytest.mark.parametrize(
    "options", [{"axis": 1}, {"axis": 2}, {"center": False}, {"scale": False}, {"renorm": True}]
)
def test_batch_norms_of_another_kind_are_left_alone(options):
    image = keras.Input((8, 8, 8))
    model = keras.Model(image, keras.layers.BatchNormalization(**options)(image))
    assert twin(model) is model


def test_a_batch_norm_with_a_mask_is_left_alone():
    image = keras.Input((8, 8, 8))
    x = keras.layers.BatchNormalization()(keras.layers.Masking()(image))
    model = keras.Model(image, x)
    assert twin(model) is model


@pytest.mark.parametrize("kind", ["sequential", "clone", "list", "dict", "outputs", "bytes"])
def test_models_of_users_are_fused_or_left_alone(kind):
    dtype = "uint8" if kind == "bytes" else "float32"
    image = keras.Input((8, 8, 3), dtype=dtype, name="image")
    layers = [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()]
    if kind in ("sequential", "clone"):
        model = keras.Sequential([image, *layers])
        model = keras.models.clone_model(model) if kind == "clone" else model
    else:
        given = {"list": [image], "dict": {"image": image}}.get(kind, image)
        y = layers[1](layers[0](image))
        model = keras.Model(given, [y] if kind == "outputs" else y)
    x = images(2, 8, 8).astype(dtype)
    x = {"list": [x], "dict": {"image": x}}.get(kind, x)
    wanted, answers = (keras.tree.flatten(m(x))[0] for m in (model, twin(model)))
    np.testing.assert_allclose(answers, wanted, rtol=1e-5)


def batch_norms(trainable, size):
    """A net whose gradient is smooth, as that of a ReLU is not."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*size, 3))
    x = image
    for number in range(3):
        x = keras.layers.Conv2D(6, 3, use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3, name=f"norm{number}")(x)
        x = keras.layers.Activation("tanh")(x)
    net = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    rng = np.random.default_rng(0)
    for weight in net.weights:
        weight.assign(abs(weight + 0.3 * rng.standard_normal(weight.shape)))
    net.get_layer("norm1").trainable = trainable
    return net


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize(("count", "size"), [(1, (9, 7)), (5, (9, 7)), (1, (7, 7))])
def test_batch_norms_answer_learn_and_average_the_same(training, trainable, count, size):
    x = tf.constant(np.random.default_rng(1).standard_normal((count, *size, 3)), tf.float32)
    found = []
    for fused in (False, True):
        net = batch_norms(trainable, size)
        model = twin(net) if fused else net
        assert [layer.name.endswith("_fused") for layer in model.layers].count(True) == 3 * fused
        weights = [v.value for v in net.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            answers = model(x, training=training)
            loss = tf.reduce_sum(answers**3)
        found.append([answers, *tape.gradient(loss, [x, *weights]), *net.get_weights()])
    near = 1e-5 if size == (9, 7) else 1e-4  # of one pixel, the deviation is that of epsilon
    for stock, fast in zip(*found, strict=True):
        np.testing.assert_allclose(fast, stock, rtol=near, atol=near * np.abs(stock).max())


@pytest.mark.parametrize(("name", "norms"), [("resnet20", 21), ("test_resnet", 15)])
def test_nets_with_batch_norms_answer_and_average_the_same(name, norms):
    net = shaken(name)
    fast, before = twin(net), net.get_weights()
    assert [type(layer) for layer in fast.layers].count(OneBatchNorm) == norms
    x = images(4, *net.input_shape[1:3])
    for training in (False, True):
        found = []
        for model in (net, fast):
            net.set_weights(before)
            found.append([model(x, training=training).numpy(), *net.get_weights()])
        for stock, fused in zip(*found, strict=True):
            np.testing.assert_allclose(fused, stock, rtol=1e-4, atol=1e-5 * np.abs(stock).max())


def test_dropout_keeps_half_and_draws_anew():
    keep = np.empty((2000, 64), np.float32)
    for row in range(len(keep)):
        kernels.draw(keep[row], np.uint32(row * 2654435761 % 2**32))
    assert set(np.unique(keep)) == {0, 1}
    assert keep.mean() == pytest.approx(0.5, abs=0.005)
    np.testing.assert_allclose(keep.mean(axis=0), 0.5, atol=0.06)
    assert abs(np.corrcoef(keep.T) - np.eye(64)).max() < 0.12
    fast = twin(shaken("cifar10_tiny_half"))
    x = np.repeat(images(1, 32, 32), 2, axis=0)
    first, second = (fast(x, training=True).numpy() for _ in range(2))
    assert abs(first[0] - first[1]).max() > 1e-2  # of one batch
    assert abs(first - second).max() > 1e-2  # of two


def test_dropout_has_the_gradient_of_what_it_kept():
    """Against differences of the loss along one direction, with the same draws."""
    fast = twin(shaken("cifar10_tiny_half"))
    states = [v for v in fast.variables if v.name == "seed_generator_state"]
    weights = [v for v in fast.trainable_variables if "stage1" in v.path or "fused" in v.path]
    rng = np.random.default_rng(2)
    direction = [rng.standard_normal(v.shape).astype(np.float32) for v in weights]
    x = images(8, 32, 32)

    def loss():
        for state in states:
            state.assign([3, 0])
        return tf.reduce_mean(tf.square(fast(x, training=True)))

    with tf.GradientTape() as tape:
        value = loss()
    slope = sum(
        float(tf.reduce_sum(g * d))
        for g, d in zip(tape.gradient(value, [v.value for v in weights]), direction, strict=True)
    )
    step, values = 1e-4, []
    for sign in (1, -2):
        for variable, d in zip(weights, direction, strict=True):
            variable.assign_add(sign * step * d)
        values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=0.02)


def test_mathematics():
    for x in np.linspace(-20, 20, 4001, dtype=np.float32):
        near = {"rel": 1e-6, "abs": 1e-7}
        assert kernels.exp(x, np.float32(80)) == pytest.approx(np.exp(np.float64(x)), **near)
        assert kernels.exp(x, np.float32(2)) == pytest.approx(np.exp(min(np.float64(x), 2)), **near)
        assert kernels.erf(x) == pytest.approx(math.erf(x), abs=1e-6)
        bell = kernels.exp(-x * x / 2, np.float32(0))
        assert kernels.twice_cdf(x, bell) == pytest.approx(1 + math.erf(x / 2**0.5), abs=1e-6)
        x *= np.float32(7.9 / 20)
        assert kernels.tanh(x) == pytest.approx(np.tanh(np.float64(x)), **near)


@pytest.mark.parametrize("shared", [False, True])
def test_tile(shared):
    rng = np.random.default_rng(0)
    source, kernel, initial = rng.standard_normal((3, 10, tiles.LANES)).astype(np.float32)
    run = tiles.tile(
        [(0,), (2,)], [(0, (1, 1), (2,)), (1, (0, 3), (0,)), (0, (0, 0), (3,))], shared
    )

    @numba.njit
    def call(out, initial, source, kernel, row, lane):
        run(out, 0, initial, 0, source, row, kernel, row, (row,), (row, lane), (row,))

    out = np.zeros((10, tiles.LANES), np.float32)
    with pytest.raises(numba.TypingError, match="float32"):
        call(*(a.reshape(-1) for a in (out, initial, source, kernel.astype(float))), 16, 2)
    call(*(a.reshape(-1) for a in (out, initial, source, kernel)), tiles.LANES, 2)
    flat = source.reshape(-1)[tiles.LANES :]
    lanes = np.arange(tiles.LANES)
    wanted = np.zeros_like(out)
    wanted[0] = initial[0] + flat[lanes + tiles.LANES + 2] * kernel[3] + flat[lanes] * kernel[4]
    wanted[2] = initial[0 if shared else 2] + flat[lanes + 6] * kernel[1]
    np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=1e-6)


def test_without_a_place_for_compiled_code_it_is_compiled_in_memory(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(lambda x: x)
    assert kernels.compiled(lambda x: x + 1)(2) == 3


GRADIENTS = """
import hashlib, keras, numpy, tensorflow as tf
from tinyconv import create_model
from tinyconv.fast.twin import twin
for name in ("cifar10_tiny", "tiniest"):
    keras.utils.set_random_seed(0)
    net = create_model(name)
    for weight in net.trainable_variables:
        weight.assign(weight + 0.1 * numpy.random.default_rng(0).standard_normal(weight.shape))
    with tf.GradientTape() as tape:
        logits = twin(net)(numpy.random.default_rng(1).random((9, 32, 32, 3)), training=True)
    values = tape.gradient(logits, [v.value for v in net.trainable_variables])
    print(*(hashlib.sha256(v.numpy().tobytes()).hexdigest() for v in (logits, *values)))
"""


def test_what_is_compiled_anew_computes_the_same_to_the_bit(tmp_path):
    cold, _ = run("-c", GRADIENTS, NUMBA_CACHE_DIR=str(tmp_path))
    assert any(tmp_path.rglob("*.nbi"))
    warm, _ = run("-c", GRADIENTS, NUMBA_CACHE_DIR=str(tmp_path))
    assert cold == warm
