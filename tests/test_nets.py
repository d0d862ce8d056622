import functools
import gc

import keras
import numpy as np
import pytest
from conftest import run

from tinyconv import create_model, layers, list_models, recipes, registry, report
from tinyconv.devices import Devices
from tinyconv.errors import InputError

EXACT = {  # name: (parameters, multiply-adds)
    "cifar10_tiny": (170_282, 34_768_128),
    "cifar10_tiny_half": (48_794, 10_044_032),
    "resnet20": (272_474, 40_813_184),
    "resnet32": (466_906, 69_124_736),
    "resnet44": (661_338, 97_436_288),
    "resnet56": (855_770, 125_747_840),
    "test_byobnet": (456_856, 31_142_144),
    "test_convnext": (272_128, 31_228_800),
    "test_convnext2": (477_800, 50_803_200),
    "test_convnext3": (468_840, 49_830_400),
    "test_efficientnet": (356_196, 57_304_256),
    "test_efficientnet_evos": (357_292, 57_304_256),
    "test_efficientnet_gn": (356_196, 57_304_256),
    "test_efficientnet_ln": (356_196, 57_304_256),
    "test_nfnet": (383_080, 285_058_560),
    "test_resnet": (469_688, 102_547_200),
    "test_vit": (371_240, 29_800_960),
    "test_vit2": (455_720, 38_074_880),
    "test_vit3": (930_280, 76_404_480),
    "tiniest": (97_530, 43_878_176),
}
CUSTOM = {"test_nfnet"}  # those with a layer of our own
SMALL = (32, 32, 3)  # which every net takes


built = functools.cache(create_model)  # not to be changed


def test_every_net_is_in_the_table():
    assert list_models() == sorted(EXACT)


@pytest.mark.parametrize("name", EXACT)
class TestEveryNet:
    def test_size_is_exact(self, name):
        model, net = built(name), registry.get(name)
        assert (report.parameters(model), report.macs(model)) == EXACT[name]
        assert (net.parameters, net.macs) == EXACT[name]
        assert model.input_shape == (None, *net.input_shape)
        assert model.output_shape == (None, net.num_classes)
        assert net.recipe in recipes.RECIPES

    def test_any_number_of_classes(self, name):
        features = create_model(name, num_classes=0)
        width = features.output_shape[-1]
        head = create_model(name, num_classes=7)
        assert head.output_shape == (None, 7)
        assert report.parameters(head) == report.parameters(features) + 7 * (width + 1)

    def test_any_image_size(self, name):
        width = 40 if registry.get(name).multiple == 1 else 32
        model = create_model(name, input_shape=(48, width, 3))
        assert model(np.zeros((1, 48, width, 3), np.uint8)).shape == (1, model.output_shape[-1])

    def test_any_type_of_image(self, name):
        model = built(name, input_shape=SMALL)
        images = np.random.default_rng(0).integers(256, size=(2, *SMALL))
        logits = np.array(model(images.astype("uint8")))
        for dtype in ("int32", "int64", "float16", "float32", "float64"):
            np.testing.assert_array_equal(np.array(model(images.astype(dtype))), logits)

    def test_only_stock_layers_with_names(self, name):
        layers_of_our_own = set()
        for layer in built(name).layers:
            if type(layer) is not getattr(keras.layers, type(layer).__name__, None):
                layers_of_our_own.add(type(layer))
            unnamed = layer.name.replace("_", "").rstrip("0123456789")
            assert unnamed != type(layer).__name__.lower()
        assert layers_of_our_own == ({layers.StandardizedConv2D} if name in CUSTOM else set())

    @pytest.mark.slow
    @pytest.mark.parametrize("mixed", [False, True])
    def test_every_weight_learns(self, name, mixed):
        keras.utils.set_random_seed(1)  # in some starts a ReLU of few channels sleeps
        model = Devices().clone(create_model(name, input_shape=SMALL), mixed)
        assert {layer.compute_dtype for layer in model.layers[2:-1]} == (
            {"bfloat16"} if mixed else {"float32"}
        )
        assert model.output.dtype == "float32"
        model.compile(
            optimizer=keras.optimizers.Lion(0.01),  # its steps are as long for any gradient but 0
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            run_eagerly=True,  # two steps are not worth tracing
        )
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(8, *SMALL), dtype=np.uint8)
        labels = rng.integers(model.output_shape[-1], size=8)
        before = [w.numpy() for w in model.trainable_weights]
        for _ in range(2):  # before the first, a zero may still bar the way to other weights
            model.train_on_batch(images, labels)
        for old, weight in zip(before, model.trainable_weights, strict=True):
            assert np.any(old != weight.numpy()), weight.path


@pytest.mark.slow
def test_every_net_of_stock_layers_loads_without_tinyconv_and_answers_to_the_bit(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, *SMALL), dtype=np.uint8)
    answers = {}
    for name in sorted(set(list_models()) - CUSTOM):
        model = built(name, input_shape=SMALL)
        model.save(tmp_path / f"{name}.keras")
        answers[name] = np.array(model(images))
    np.save(tmp_path / "images.npy", images)
    app = """
import sys
sys.modules["tinyconv"] = None  # importing it fails from here on
import numpy as np, pathlib, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
images = np.load(folder / "images.npy")
for path in folder.glob("*.keras"):
    np.save(path.with_suffix(".npy"), tf.keras.models.load_model(path)(images))
"""
    run("-c", app, tmp_path)
    for name, logits in answers.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), logits, err_msg=name)


def test_float16_on_a_gpu_scales_the_loss():
    devices = Devices()
    devices.kind = "gpu"
    model = devices.clone(create_model("cifar10_tiny_half"), mixed=True)
    assert model.get_layer("stem_conv").compute_dtype == "float16"
    scaled = devices.optimizer(keras.optimizers.Adam(), mixed=True)
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert isinstance(
        devices.optimizer(keras.optimizers.Adam(), mixed=False), keras.optimizers.Adam
    )


def test_tiniest_draws_biases_apart_from_kernels():
    for layer in create_model("tiniest").layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kernel, bias = (weight.numpy() for weight in layer.weights)
            limit = np.prod(kernel.shape[:-1]) ** -0.5
            assert 0.9 * limit < np.abs(kernel).max() <= limit
            assert np.abs(bias).max() <= limit
            assert not np.allclose(kernel.ravel()[: bias.size], bias)


def test_normalization_is_inside():
    normalize = create_model("cifar10_tiny").get_layer("normalize")
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    pixel = np.array([[[[0, 128, 255]]]], np.float32)
    np.testing.assert_allclose(normalize(pixel), (pixel / 255 - mean) / std, rtol=1e-5)


@pytest.mark.parametrize(("name", "more"), [("resnet20", 5_850), ("resnet56", 5_850)])
def test_a_resnet_for_cifar100(name, more):
    model = create_model(name, num_classes=100)
    assert report.parameters(model) == EXACT[name][0] + more
    mean, std = np.array([0.5071, 0.4865, 0.4409]), np.array([0.2009, 0.1984, 0.2023])
    pixel = np.array([[[[0, 128, 255]]]], np.float32)
    np.testing.assert_allclose(
        model.get_layer("normalize")(pixel), (pixel / 255 - mean) / std, rtol=1e-5
    )


def test_a_bottleneck_starts_as_the_identity():
    model = create_model("cifar10_tiny")
    ends = [model.get_layer(name).output for name in ("stem_norm", "stage1_block2_add")]
    images = np.random.default_rng(0).integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    before, after = keras.Model(model.input, ends)(images)
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_summary_shows_every_layer_and_exact_totals():
    text = report.summary(built("tiniest"))
    assert len(text.splitlines()) == len(built("tiniest").layers) + 1
    for words in (
        "97,530",
        "100.00%",
        "43,878,176",
        "stage2_block3_expand",
        "13.29%",
        "16 x 16 x 80",
    ):
        assert words in text


def test_published_accuracies_are_those_that_the_architecture_names():
    for name, net in registry.NETS.items():
        document = net.module().__doc__
        rows = [line for line in document.splitlines() if line.startswith(f"| {name} ")]
        (text,) = rows or [document]
        assert net.published or net.source == "tinyconv"
        for accuracy in net.published:
            forms = {f"{accuracy.percent:g}%", f"{accuracy.percent:.2f}%"}
            assert any(form in text for form in forms), (name, accuracy)
        assert f"{net.parameters:,}" in text


def test_list_models_takes_a_pattern():
    assert list_models("*_half") == ["cifar10_tiny_half"]
    assert list_models("no such net") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "cifar10_tinny"}, "did you mean 'cifar10_tiny'?"),
        ({"name": "cifar10_tiny", "num_classes": -1}, "num_classes is -1; it must be 0"),
        ({"name": "cifar10_tiny", "input_shape": (32, 32)}, "it must be (height, width, 3)"),
        ({"name": "cifar10_tiny", "input_shape": (3, 32, 32)}, "it must be (height, width, 3)"),
        ({"name": "test_convnext", "input_shape": (31, 64, 3)}, "must be 32 or more"),
        ({"name": "test_vit", "input_shape": (48, 40, 3)}, "must be multiples of 16"),
        ({"name": "test_vit.r160_in21k", "pretrained": True}, "did you mean 'test_vit.r160_in1k'"),
        ({"name": "test_vit", "pretrained": "gone.pt"}, "There is no file gone.pt."),
    ],
)
def test_what_cannot_be_built_says_why(arguments, sentence):
    with pytest.raises(InputError) as error:
        create_model(**arguments)
    assert sentence in str(error.value)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was_after_a_net_is_built(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        create_model("cifar10_tiny_half")
        assert gc.isenabled() is enabled
        with pytest.raises(InputError):
            create_model("cifar10_tiny_half", num_classes=-1)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
