"""The fast twin answers, learns and draws as the net that it stands for."""

import math
import random
from collections import Counter

import graphs
import hypothesis
import keras
import numba
import numpy as np
import pytest
import tensorflow as tf
from conftest import run
from hypothesis import strategies

from tinyconv import create_model, list_models
from tinyconv.devices import Devices
from tinyconv.fast import kernels, proof, tiles, xla
from tinyconv.fast import twin as twin_module
from tinyconv.fast.batchnorm import OneBatchNorm
from tinyconv.fast.bottleneck import Bottleneck
from tinyconv.fast.gated import Gated
from tinyconv.fast.grouped import Grouped
from tinyconv.fast.norm import Norm
from tinyconv.fast.twin import Fused, twin
from tinyconv.graph import part
from tinyconv.training.train import train

FUSED = {"cifar10_tiny": 11, "cifar10_tiny_half": 11, "tiniest": 9}  # blocks
CHAINS = {"cifar10_tiny": 3, "cifar10_tiny_half": 3, "tiniest": 1}


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


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x == "cifar10_tiny" else ()) for x in FUSED]
)
@pytest.mark.parametrize("shape", [(32, 32), (18, 12)])
@pytest.mark.parametrize("training", [False, True])
def test_same_answers_and_gradients(name, shape, training):
    net = shaken(name, input_shape=(*shape, 3))
    for layer in net.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    fast = twin(net)
    chains = [layer.blocks for layer in fast.layers if isinstance(layer, Fused)]
    assert len(chains) == CHAINS[name]
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


def fused_kinds(model):
    """How many blocks of which kind the twin of a model has."""
    layers = twin_module.fused(model).layers
    blocks = [type(block) for layer in layers if isinstance(layer, Fused) for block in layer.blocks]
    return Counter([*blocks, *(type(x) for x in layers if isinstance(x, OneBatchNorm))])


COMPILING = (
    "Compiling kernels for this processor. This takes up to a minute, and later runs reuse the "
    "kernels."
)
WHOLE = {
    "cifar10_tiny": {Norm: 3, Bottleneck: 8},
    "cifar10_tiny_half": {Norm: 3, Bottleneck: 8},
    "tiniest": {Norm: 2, Gated: 6, Grouped: 1},
    "resnet20": {OneBatchNorm: 21},
    "resnet32": {OneBatchNorm: 33},
    "resnet44": {OneBatchNorm: 45},
    "resnet56": {OneBatchNorm: 57},
    "test_byobnet": {OneBatchNorm: 14},
    "test_convnext": {Norm: 13},
    "test_convnext2": {Norm: 8},
    "test_convnext3": {Norm: 8},
    "test_efficientnet": {OneBatchNorm: 13},
    "test_efficientnet_ln": {Norm: 13},
    "test_resnet": {OneBatchNorm: 15},
}


@pytest.mark.slow
def test_each_net_that_ships_has_its_blocks_fused(tmp_path):
    for name in list_models():
        assert fused_kinds(create_model(name)) == WHOLE.get(name, {}), name
    create_model("tiniest").save(tmp_path / "tiniest.keras")
    loaded = keras.saving.load_model(tmp_path / "tiniest.keras")
    assert fused_kinds(loaded) == WHOLE["tiniest"]


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_a_block_is_fused_whatever_its_layers_are_called(kind):
    names = {"batchnorm": OneBatchNorm, "norm": Norm, "grouped": Grouped, "gated": Gated}
    names["bottleneck"] = Bottleneck
    assert fused_kinds(graphs.build(graphs.stock_steps(kind))) == {names[kind]: 1}


def agree(model, fast, x):
    """Whether two models on the same variables answer and learn the same, and cost the same."""
    before = [variable.numpy() for variable in model.variables]
    for training in (False, True):
        found = []
        for one in (model, fast):
            for variable, value in zip(model.variables, before, strict=True):
                variable.assign(value)
            weights = [v.value for v in model.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(x)
                answers = one(x, training=training)
                loss = tf.reduce_sum(tf.cast(answers, "float32") ** 2)
                loss += sum(tf.cast(part, "float32") for part in one.losses)
            gradients = tape.gradient(loss, [x, *weights], unconnected_gradients="zero")
            found.append([answers, loss, *gradients, *model.get_weights()])
        for own, other in zip(*found, strict=True):
            own, other = (np.asarray(a, np.float32) for a in (own, other))
            largest = max(abs(np.asarray(a, np.float32)).max() for a in found[0][2:])
            limit = 1e-4 * abs(own).max() + 1e-6 * largest
            np.testing.assert_allclose(other, own, rtol=0, atol=limit)


@pytest.mark.slow
@pytest.mark.parametrize("kind", graphs.KINDS)
@hypothesis.settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(strategies.data())
@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
def test_a_block_that_was_changed_is_never_fused_wrongly(kind, data):
    def draw(values):
        return data.draw(strategies.sampled_from(values))

    keras.utils.set_random_seed(0)
    x = tf.constant(np.random.default_rng(1).standard_normal((2, *graphs.SHAPE)), tf.float32)
    try:
        model, what = graphs.changed(kind, draw, times=draw([1, 1, 1, 2]))
        model(x, training=True)
    except Exception:  # no such net
        hypothesis.reject()
    fast = twin_module.fused(model)
    hypothesis.event(f"fused: {fast is not model}")
    if fast is not model:
        hypothesis.note(what)
        chains = [layer.stock for layer in fast.layers if isinstance(layer, Fused)]
        inside = {layer for blocks in chains for own in blocks for layer in own.values()}
        assert not inside & {*fast.layers}  # computed once
        graphs.shake(model)
        agree(model, fast, x)


def swapped_tiny():
    """`cifar10_tiny` as a student has it who swaps the layer norm and GELU."""

    def bottleneck(x, name):
        y = keras.layers.DepthwiseConv2D(3, padding="same", name=f"{name}_dwconv")(x)
        y = keras.layers.Activation("gelu", name=f"{name}_gelu")(y)
        y = keras.layers.LayerNormalization(name=f"{name}_norm")(y)
        y = keras.layers.Dropout(0.5, name=f"{name}_dropout")(y)
        y = keras.layers.Dense(16, name=f"{name}_dense")(y)
        y = keras.layers.DepthwiseConv2D(1, use_bias=False, name=f"{name}_scale")(y)
        return keras.layers.Add(name=f"{name}_add")([x, y])

    image = keras.Input((8, 8, 16))
    x = bottleneck(bottleneck(image, "stage1_block1"), "stage1_block2")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="swapped")


def test_layers_in_another_order_are_not_fused_wrongly():
    net = swapped_tiny()
    fast, x = twin(net), np.random.default_rng(0).standard_normal((2, 8, 8, 16))
    np.testing.assert_allclose(fast(x), net(x), rtol=1e-5, atol=1e-5)


def twice_averaged(self, x, training=False, stock=OneBatchNorm.call):
    y = stock(self, x, training)
    return stock(self, x, training) if training else y


@pytest.mark.parametrize("wrong", ["forward", "gradients", "pattern", "error", "norm"])
def test_a_twin_that_is_wrong_is_not_used_and_a_line_says_so(wrong, monkeypatch, capsys):
    """A fresh net: its layer scales of a millionth hide what a block does."""
    monkeypatch.setattr(proof, "_known", {})
    net = create_model("resnet20" if wrong == "norm" else "cifar10_tiny_half")
    stock = Bottleneck.gradients
    if wrong == "forward":
        monkeypatch.setattr(Bottleneck, "forward", lambda self, draws, x, prepared, y: y.fill(0))
    elif wrong == "gradients":
        monkeypatch.setattr(Bottleneck, "gradients", lambda *a: tuple(1.2 * g for g in stock(*a)))
    elif wrong == "error":
        monkeypatch.setattr(Bottleneck, "prepare", lambda *a: 1 / 0)
    elif wrong == "norm":
        monkeypatch.setattr(OneBatchNorm, "call", twice_averaged)
    else:
        loose = part(keras.layers.Activation, "norm", free="activation", activation="gelu")
        monkeypatch.setattr(Bottleneck, "pattern", Bottleneck.pattern | {"gelu": loose})
        for layer in net.layers:
            if type(layer) is keras.layers.Activation:
                layer.activation = keras.activations.relu
    before = [variable.numpy().tobytes() for variable in net.variables]
    state, drawn = random.getstate(), np.random.get_state()[1].tobytes()
    assert twin(net) is net
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line != COMPILING)
    assert said.startswith(f"{net.name} runs layer by layer: its fused twin ")
    assert before == [variable.numpy().tobytes() for variable in net.variables]
    assert state == random.getstate() and drawn == np.random.get_state()[1].tobytes()
    assert {x.rate for x in net.layers if isinstance(x, keras.layers.Dropout)} <= {0.5}


def test_the_check_of_a_twin_refuses_numbers_that_overflow():
    ones = np.ones((2, 3), np.float32)
    for large in (1e30, np.inf):
        own, other = (ones * np.float32(sign * large) for sign in (1, -1))
        for wrong in ((own, [], []), (ones, [own], []), (ones, [], [own, ones])):
            answers, *rest = wrong
            lists = [[other, *found[1:]] if found else [] for found in rest]
            assert proof._difference(wrong, (other if answers is own else ones, *lists))
    assert proof._difference((ones, [own], []), (ones, [ones], []))


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


def test_a_net_in_mixed_precision_is_not_fused():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = create_model("cifar10_tiny_half")
    finally:
        keras.config.set_dtype_policy(policy)
    assert twin(net) is net


@pytest.mark.parametrize(
    ("name", "dtype"), [("cifar10_tiny_half", "float32"), ("resnet20", "bfloat16")]
)
def test_a_copy_for_training_in_mixed_precision_is_fused(name, dtype):
    """Fused blocks compute in float32, and batch norms in bfloat16."""
    net = create_model(name)
    rng = np.random.default_rng(0)
    for weight in net.trainable_variables:
        weight.assign_add(0.1 * rng.standard_normal(weight.shape))
    for layer in net.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    copy = Devices().clone(net, True, fast=True)
    fast = twin(copy, mixed=True)
    layers = [layer for layer in fast.layers if isinstance(layer, Fused | OneBatchNorm)]
    assert {layer.compute_dtype for layer in layers} == {dtype}
    kinds = [type(x) for layer in layers for x in getattr(layer, "blocks", [layer])]
    assert Counter(kinds) == WHOLE[name]
    x, direction, found = images(32, 32, 32), rng.standard_normal((32, 10)), []
    for model in (net, Devices().clone(net, True), fast):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_sum(logits * direction)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        states = [v.numpy() for v in model.non_trainable_variables if v.dtype == "float32"]
        found.append((logits, np.concatenate([np.ravel(g) for g in gradients]), *states))
    exact, plain, fused = found
    for own, rounded, other in zip(exact, plain, fused, strict=True):
        error, fused_error = (np.linalg.norm(x - own) for x in (rounded, other))
        assert fused_error < 1.2 * error + 1e-3 * np.linalg.norm(own)


@pytest.mark.slow
def test_xla_trains_the_vits_and_no_other_net():
    suited = [name for name in list_models() if xla.suits(create_model(name))]
    assert suited == ["test_vit", "test_vit2", "test_vit3"]
    assert not xla.suits(Devices().clone(create_model("test_vit"), mixed=True))


def test_xla_trains_no_layers_that_it_may_not_know():
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    def vit(*more):
        image = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 4, 4)(image)
        for layer in more:
            x = layer(x)
        x = keras.layers.Softmax()(keras.layers.LayerNormalization()(x))
        return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))

    assert xla.suits(vit()) and xla.suits(vit(keras.layers.Dense(4, activation="gelu")))
    resize = {"interpolation": "bicubic"}
    for layer in (
        *(Own(), keras.layers.Resizing(4, 4, **resize), keras.layers.RandomGaussianBlur()),
        *(
            keras.layers.Conv2D(4, 2, 1),
            keras.layers.AveragePooling2D(2),
            keras.Sequential([keras.layers.Dense(4)]),
        ),
        lambda x: keras.ops.image.resize(x, (4, 4), **resize),
    ):
        assert not xla.suits(vit(layer)), layer


@pytest.mark.slow
def test_a_transformer_trains_by_xla_and_learns_the_same(npz, tmp_path):
    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"])
            compiled.add(self.model.jit_compile)

    found = []
    for fast in (True, False):
        losses, compiled = [], set()
        options = {"epochs": 1, "batch_size": 16, "seed": 0, "out": tmp_path / str(fast)}
        train("test_vit", npz, fast=fast, callbacks=[Losses()], **options)
        assert compiled == {fast}
        found.append(losses)
    np.testing.assert_allclose(*found, rtol=1e-3)


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


def test_exp_erf_and_tanh_of_the_kernels_are_those_of_numpy():
    for x in np.linspace(-20, 20, 4001, dtype=np.float32):
        near = {"rel": 1e-6, "abs": 1e-7}
        assert kernels.exp(x, np.float32(80)) == pytest.approx(np.exp(np.float64(x)), **near)
        assert kernels.exp(x, np.float32(2)) == pytest.approx(np.exp(min(np.float64(x), 2)), **near)
        assert kernels.erf(x) == pytest.approx(math.erf(x), abs=1e-6)
        x *= np.float32(7.9 / 20)
        assert kernels.tanh(x) == pytest.approx(np.tanh(np.float64(x)), **near)


@pytest.mark.parametrize("shared", [False, True])
def test_a_tile_adds_products_of_shifted_lanes(shared):
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


@pytest.mark.slow
def test_kernels_give_the_same_bits_compiled_anew_and_from_the_cache(tmp_path):
    cold, cold_err = run("-c", GRADIENTS, NUMBA_CACHE_DIR=str(tmp_path))
    assert any(tmp_path.rglob("*.nbi"))
    warm, warm_err = run("-c", GRADIENTS, NUMBA_CACHE_DIR=str(tmp_path))
    assert cold == warm
    assert cold_err.splitlines().count(COMPILING) == 1 and COMPILING not in warm_err
