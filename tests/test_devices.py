"""What a training runs on, with stand-ins for what is not here."""

import json
import platform
import socket

import keras
import numpy as np
import pytest
from conftest import run

from tinyconv import create_model, devices, hosts, machine, saving
from tinyconv.errors import InputError
from tinyconv.training.train import train

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="stand-ins for TensorFlow's"
)


@pytest.fixture
def cloud(monkeypatch):
    """A TPU that is one CPU; what was asked of the resolver."""
    import tensorflow as tf

    asked = []

    class Resolver:
        @staticmethod
        def connect(tpu=None, zone=None, project=None):
            asked.append((tpu, zone))
            if tpu == "gone":
                raise ValueError("Could not find TPU\nin two lines")
            return Resolver()

    class Strategy(tf.distribute.OneDeviceStrategy):
        def __init__(self, resolver):
            assert isinstance(resolver, Resolver)
            super().__init__("CPU:0")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", Strategy)
    return asked


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("local", ("local", None)),
        ("node-1", ("node-1", None)),
        ("us-central2-b/node-1", ("node-1", "us-central2-b")),
    ],
)
def test_a_tpu_is_found_by_what_a_cloud_calls_it(flag, expected, cloud):
    found = devices.Devices(flag)
    assert cloud == [expected]
    assert (found.kind, found.count) == ("tpu", 1)


def test_a_tpu_is_found_by_its_address_if_that_answers(cloud):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        assert devices.Devices(address).kind == "tpu"
    assert cloud == [(address, None)]
    with pytest.raises(InputError, match="No TPU answers at"):
        devices.Devices(address)
    assert len(cloud) == 1


def test_no_tpu_is_one_sentence(cloud):
    with pytest.raises(InputError) as error:
        devices.Devices("gone")
    assert str(error.value) == (
        "No TPU answers at 'gone' (ValueError); run on a TPU machine or leave out --tpu."
    )


@pytest.mark.slow
def test_a_tpu_trains_in_bfloat16_on_whole_batches_in_long_executions(cloud, small, npz, tmp_path):
    seen = {}

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen["dtypes"] = {layer.compute_dtype for layer in self.model.layers[1:-1]}
            seen["last"] = self.model.layers[-1].compute_dtype
            seen["steps_per_execution"] = self.model.steps_per_execution
            seen["steps"] = self.params["steps"]

    options = {"epochs": 2, "batch_size": 5, "tpu": "us-central2-b/node-1", "callbacks": [Watch()]}
    folder = train(small, npz, recipe="digits", out=tmp_path, **options)
    assert cloud == [("node-1", "us-central2-b")]
    assert seen == {"dtypes": {"bfloat16"}, "last": "float32", "steps_per_execution": 9, "steps": 9}
    facts = json.loads((folder / "report.json").read_text())
    assert facts["devices"] == {"kind": "tpu", "count": 1, "hosts": 1} and facts["epochs"] == 2
    model = saving.load_model(folder / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ({"limit": 0}, {}, "--devices is 0; it must be at least 1."),
        ({"limit": 64}, {}, "--devices is 64; the number of visible cpu devices is 1."),
        ({"limit": 1, "tpu": "local"}, {}, "--devices limits GPUs; a TPU is used whole."),
        ({"hosts": hosts.Hosts(("a:1", "b:1"), 0)}, {}, "issue 20585): set KERAS_BACKEND=jax"),
        (
            {},
            {"TF_CONFIG": '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}'},
            "TF_CONFIG names 2 workers, but Keras cannot train on several machines by TensorFlow",
        ),
        ({}, {"TF_CONFIG": "{"}, "TF_CONFIG is not the JSON of a cluster; unset it."),
    ],
)
def test_devices_that_are_not_there_are_refused(arguments, environment, sentence, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        devices.Devices(**arguments)
    assert sentence in str(error.value)


@pytest.mark.parametrize(("kind", "dtype"), [("cpu", "bfloat16"), ("gpu", "float16")])
@pytest.mark.parametrize("name", ["cifar10_tiny_half", "tiniest", "resnet20"])
def test_mixed_precision_ends_in_float32(name, kind, dtype):
    """The copy for a GPU runs here, too, on the CPU."""
    here = devices.Devices()
    here.kind = kind
    net = create_model(name)
    clone = here.clone(net, mixed=True)
    assert {layer.compute_dtype for layer in clone.layers[1:-1]} == {dtype}
    assert {weight.dtype for weight in clone.trainable_weights} == {"float32"}
    optimizer = here.optimizer(keras.optimizers.SGD(), mixed=True)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "float16")
    clone.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).integers(256, size=(4, 32, 32, 3)).astype(np.uint8)
    logits = clone(images)
    assert logits.dtype == clone.compute_loss(images, np.arange(4), logits).dtype == "float32"
    expected = np.asarray(net(images))
    error = np.abs(np.asarray(logits) - expected).max() / np.abs(expected).max()
    assert 0 < error < 0.05


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels for x86-64")
def test_the_report_names_the_kernels_of_the_blas():
    """They are a part of what two equal runs have in common; `OPENBLAS_CORETYPE` chooses others."""
    code = "from tinyconv import machine; print(machine.describe()['blas'])"
    for kernels in ("Nehalem", "Haswell"):
        out, _ = run("-c", code, OPENBLAS_CORETYPE=kernels)
        libraries = json.loads(out.replace("'", '"'))
        assert libraries and all(f" {kernels}" in library for library in libraries)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16\nflags\t\t: fpu\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),
        ("model name\t: old\nflags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd\n", False),
        ("", True),
    ],
)
def test_bfloat16_is_read_off_the_flags_of_the_processor(text, has, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.has_bfloat16()
    machine.CPUINFO.write_text(text)
    assert machine.has_bfloat16() == has
