"""Keras on JAX, in processes of its own: without TensorFlow, and without XLA's slow gradients."""

import json
import time

import keras
import numpy as np
import pytest
from conftest import run, start

from tinyconv import data, report

pytest.importorskip("jax", reason="JAX is not installed")
pytestmark = pytest.mark.slow
JAX = {"KERAS_BACKEND": "jax"}

WITHOUT_TENSORFLOW = """
import sys

class NoTensorFlow:  # Keras imports it, unasked, where it is installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ImportError("as where it is not installed")

sys.meta_path.insert(0, NoTensorFlow())
"""

TRAIN = """
import numpy as np
from tinyconv import cli, saving
from tinyconv.training import train

logits, *arguments = sys.argv[1:]

def fit(trainer, folder, *others, fit=train._train):
    fit(trainer, folder, *others)
    model = saving.load_model(folder.path / "model.keras")
    np.save(logits, model(trainer.dataset.test.images))

train._train = fit
cli.main(["train", *arguments])
assert "tensorflow" not in sys.modules
"""

CHIPS = """
import jax, keras
from tinyconv import cli
from tinyconv.training import train

cpus = jax.local_devices()
jax.local_devices = lambda backend=None: cpus

class Watch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        assert {layer.compute_dtype for layer in self.net.layers[1:-1]} == {"bfloat16"}
        assert self.net.layers[-1].compute_dtype == "float32"
        assert len({x for v in self.model.weights for x in v.value.devices()}) == 2
        assert self.model.steps_per_execution == self.params["steps"] > 1

def fit(trainer, folder, done, callbacks, fit=train._train):
    Watch.net = trainer.replica
    fit(trainer, folder, done, [Watch()])

train._train = fit
cli.main(["train", *sys.argv[1:]])
"""


@pytest.mark.parametrize("net", ["cifar10_tiny_half", "tiniest", "resnet20"])
def test_a_net_trains_without_tensorflow_and_answers_the_same_there(net, small, npz, tmp_path):
    arguments = ("--model", net, "--recipe", "tiniest", "--data", npz, "--batch", 16)
    arguments += ("--teacher", small) if net == "resnet20" else ()
    logits = tmp_path / "logits.npy"
    run(
        "-c",
        WITHOUT_TENSORFLOW + TRAIN,
        logits,
        *arguments,
        "--epoch",
        2,
        "--out",
        tmp_path / "runs",
        **JAX,
    )
    (folder,) = (tmp_path / "runs").iterdir()
    facts = json.loads((folder / "report.json").read_text())
    assert facts["status"] == "complete" and facts["machine"]["backend"] == "jax"
    model = keras.saving.load_model(folder / "model.keras")
    test = data.load(str(npz), (32, 32)).test
    expected = np.load(logits)
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(model(test.images), expected, rtol=0, atol=limit)
    assert report.evaluate(model, test).figures() == pytest.approx(facts["test"], rel=1e-4)


def test_tpu_is_every_chip_of_the_machine_in_bfloat16(small, npz, tmp_path):
    """Two CPUs stand in for the chips; no TPU has run this."""
    out = tmp_path / "runs"
    arguments = ("--model", "resnet20", "--data", npz, "--batch", 10, "--epoch", 2, "--tpu")
    arguments += ("--teacher", small)
    environment = JAX | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run("-c", WITHOUT_TENSORFLOW + CHIPS, *arguments, "--out", out, **environment)
    (folder,) = out.iterdir()
    facts = json.loads((folder / "report.json").read_text())
    assert facts["devices"] == {"kind": "tpu", "count": 2, "hosts": 1}
    assert facts["status"] == "complete" and facts["epochs"] == 2
    model = keras.saving.load_model(folder / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_a_killed_run_resumes_to_the_same_weights(npz, tmp_path):
    arguments = ("train.py", "--model", "cifar10_tiny_half", "--data", npz, "--batch", 24)
    arguments += ("--augment", "--epoch", 2, "--out")
    run(*arguments, tmp_path / "whole", **JAX)
    process = start(*arguments, tmp_path / "killed", **JAX)
    end = time.monotonic() + 300
    while not list((tmp_path / "killed").glob("*/checkpoint.npz")):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (whole,), (killed,) = ((tmp_path / name).iterdir() for name in ("whole", "killed"))
    run("train.py", "--resume", killed, **JAX)
    models = [keras.saving.load_model(folder / "model.keras") for folder in (whole, killed)]
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


LAYERS = """
import time
from functools import partial

import jax, keras, numpy as np
from tinyconv.fast import shifted

rng = np.random.default_rng(0)

def compare(kind, size, channels, *args, **options):
    x = rng.standard_normal((2, *size, channels)).astype("float32")
    stock = kind(*args, bias_initializer="normal", **options)
    stock.build(x.shape)
    other = shifted.Shifted(stock)
    assert shifted.Shifted.fits(stock, x.shape[1:])
    weights = [weight.value for weight in stock.weights]

    @partial(jax.jit, static_argnums=0)
    def both(layer, weights, x, dy):
        y, gradients = jax.vjp(lambda *a: layer.stateless_call(a[0], [], a[1])[0], weights, x)
        return y, gradients(dy)

    dy = rng.standard_normal(stock.compute_output_shape(x.shape)).astype("float32")
    (y, gradients), (y2, gradients2) = (both(layer, weights, x, dy) for layer in (stock, other))
    np.testing.assert_allclose(y2, y, rtol=0, atol=1e-5 * np.abs(y).max())
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(gradients2), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())

depthwise, conv = keras.layers.DepthwiseConv2D, keras.layers.Conv2D
size = 7, 10
compare(depthwise, size, 6, 1, use_bias=False)
compare(depthwise, size, 6, 3, padding="same", depth_multiplier=4)
compare(depthwise, size, 6, 7, padding="same", dilation_rate=3)
compare(depthwise, size, 4, 3, strides=2, padding="valid", depth_multiplier=3)
assert not shifted.Shifted.fits(conv(8, 3), (7, 10, 3))
for padding, stride in (("same", 1), ("valid", 2), ("same", 3)):
    compare(depthwise, size, 4, (3, 2), strides=stride, padding=padding, activation="relu")
    compare(conv, size, 12, 8, 4, strides=stride, padding=padding, groups=4)

def seconds(layer):
    def loss(weights, x):
        return (layer.stateless_call(weights, [], x)[0] ** 2).sum()

    weights = [weight.value for weight in layer.weights]
    step = jax.jit(jax.grad(loss))
    jax.block_until_ready(step(weights, x))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(step(weights, x))
        times.append(time.perf_counter() - start)
    return min(times)

x = rng.standard_normal((2, 16, 16, 64)).astype("float32")
stock = depthwise(3, depth_multiplier=4, padding="same")
stock.build(x.shape)
slow, quick = seconds(stock), seconds(shifted.Shifted(stock))
assert quick < slow / 5, (quick, slow)
print(f"{slow / quick:.0f} times faster")
"""


def test_shifted_convolutions_equal_stock_ones_without_their_slow_gradients():
    run("-c", WITHOUT_TENSORFLOW + LAYERS, **JAX)


TWINS = """
import jax, keras, numpy as np
from tinyconv import create_model
from tinyconv.fast.shifted import Shifted
from tinyconv.fast.twin import twin

name, count = sys.argv[1:]
net = create_model(name, 5, (12, 8, 3))
rng = np.random.default_rng(0)
for weight in net.trainable_variables:
    weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
fast = twin(net)
assert sum(isinstance(layer, Shifted) for layer in fast.layers) == int(count)
assert {id(v) for v in fast.trainable_variables} == {id(v) for v in net.trainable_variables}
x = rng.integers(256, size=(3, 12, 8, 3)).astype("uint8")

def both(model):
    def loss(weights):
        others = [v.value for v in model.non_trainable_variables]
        logits, _ = model.stateless_call(weights, others, x)
        return -jax.nn.log_softmax(logits)[:, 1].mean(), logits

    weights = [v.value for v in model.trainable_variables]
    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(weights)
    return logits, {v.path: g for v, g in zip(model.trainable_variables, gradients, strict=True)}

(logits, gradients), (logits2, gradients2) = both(net), both(fast)
np.testing.assert_allclose(logits2, logits, rtol=1e-5, atol=1e-5)
assert gradients.keys() == gradients2.keys()
for path, gradient in gradients.items():
    limit = 1e-4 * np.abs(gradient).max()
    np.testing.assert_allclose(gradients2[path], gradient, rtol=0, atol=limit, err_msg=path)
"""


@pytest.mark.parametrize(("net", "count"), [("cifar10_tiny_half", 16), ("tiniest", 25)])
def test_a_net_of_shifted_convolutions_answers_and_learns_as_the_stock_one(net, count):
    run("-c", WITHOUT_TENSORFLOW + TWINS, net, count, **JAX)
