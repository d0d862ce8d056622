"""timm's test nets against timm: by the golden files, and live where timm is installed."""

import functools

import keras
import numpy as np
import pytest
from conftest import command, run
from golden import make, make_timm
from safetensors.numpy import load_file, save_file

from tinyconv import cli, create_model, list_models, registry, report, saving, weights
from tinyconv.errors import InputError

NETS = make_timm.NETS
CLASSES = make_timm.CLASSES


@functools.cache
def golden(name):
    """The golden state dict of a net, and its logits by image size."""
    with np.load(make.HERE / f"{name}.npz") as file:
        shapes = [tuple(map(int, text.split())) for text in file["shapes"]]
        state = make.weights(dict(zip(file["keys"], shapes, strict=True)))
        return state, {size: file[f"logits{size}"] for size in make_timm.SIZES}


@functools.cache
def converted(name, size=160):
    """The net with its golden weights; not to be changed."""
    return create_converted(name, (size, size, 3))


def create_converted(name, shape):
    model = create_model(name, CLASSES, shape)
    weights.load_torch(model, golden(name)[0])
    return model


def assert_close(ours, theirs):
    """Within 1e-4, relative to the largest."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_every_net_of_timm_is_here():
    assert list_models("test_*") == sorted(NETS)


@pytest.mark.parametrize("size", make_timm.SIZES)
@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_timm(name, size):
    logits = golden(name)[1][size]
    assert_close(converted(name, size)(make_timm.images(size)), logits)
    assert np.ptp(logits, axis=0).max() > 0.01 * np.abs(logits).max()  # images are told apart


@pytest.mark.parametrize("name", NETS)
def test_weights_survive_the_way_to_pytorch_and_back_to_the_bit(name, tmp_path):
    state, _ = golden(name)
    weights.save_torch(converted(name), tmp_path / "net.safetensors")
    saved = load_file(tmp_path / "net.safetensors")
    counters = {f"{k.rpartition('.')[0]}.num_batches_tracked" for k in state if "running" in k}
    assert set(saved) == set(state) | counters
    for key, array in state.items():
        np.testing.assert_array_equal(saved[key], array, err_msg=key)


@pytest.mark.parametrize("name", NETS)
class TestLive:
    def test_timm_and_keras_agree_both_ways(self, timm, name, tmp_path):
        import torch

        theirs, _ = make_timm.original(name)
        model = create_model(name, CLASSES)
        weights.load_torch(model, theirs.state_dict())
        weights.save_torch(model, tmp_path / "net.pt")
        back = timm.create_model(name, num_classes=CLASSES).eval()
        back.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(back.state_dict()[key], tensor), key
        for size in make_timm.SIZES:
            images = make_timm.images(size)
            assert_close(converted(name, size)(images), make_timm.answer(back, images))

    def test_features_are_timm_s(self, timm, name):
        theirs, state = make_timm.original(name, num_classes=0)
        model = create_model(name, num_classes=0)
        weights.load_torch(model, state)
        images = make_timm.images(160)
        assert_close(model(images), make_timm.answer(theirs, images))

    def test_facts_are_timm_s(self, timm, name):
        import torch

        theirs, net = timm.create_model(name), registry.get(name)
        facts = theirs.pretrained_cfg
        height, width, channels = net.input_shape
        assert (channels, height, width) == facts["input_size"]
        assert (net.interpolation, net.crop) == (facts["interpolation"], facts["crop_pct"])
        assert net.source == f"https://huggingface.co/{facts['hf_hub_id']}"
        assert net.parameters == sum(p.numel() for p in theirs.parameters())
        normalize = converted(name).get_layer("normalize")
        pixel = np.array([[[[0, 128, 255]]]], np.float32)
        expected = (pixel / 255 - np.array(facts["mean"])) / np.array(facts["std"])
        np.testing.assert_allclose(normalize(pixel), expected, rtol=1e-5)
        macs = []

        def count(layer, _, output):
            positions = output.numel() // layer.weight.shape[0]
            macs.append(positions * layer.weight.numel())

        for layer in theirs.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(count)
        make_timm.answer(theirs.eval(), make_timm.images(160)[:1])
        assert sum(macs) == net.macs == report.macs(create_model(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_one_step_lowers_the_loss(name):
    model = create_model(name, num_classes=10, input_shape=(32, 32, 3))
    model.compile(
        optimizer=keras.optimizers.SGD(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    images = np.random.default_rng(0).integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    before, after = (model.train_on_batch(images, np.arange(8)) for _ in range(2))
    assert after < before


@pytest.mark.parametrize("shape", [(160, 96, 3), (64, 256, 3)])
def test_positions_are_resampled_as_timm_does(timm, shape):
    for name in ("test_vit", "test_vit3"):
        theirs, _ = make_timm.original(name)
        images = make_timm.images(256)[:, : shape[0], : shape[1]]
        assert_close(create_converted(name, shape)(images), make_timm.answer(theirs, images))


def test_positions_of_another_size_go_there_and_back(tmp_path):
    wide, other = (create_model("test_vit", CLASSES, (64, 256, 3)) for _ in range(2))
    weights.save_torch(wide, tmp_path / "wide.safetensors")
    weights.load_torch(other, tmp_path / "wide.safetensors")
    for one, two in zip(wide.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


@pytest.mark.parametrize("shape", [(1, 38, 64), (1, 101, 63), (1, 1, 64), (101, 64)])
def test_positions_of_no_square_are_refused(shape):
    state = golden("test_vit")[0] | {"pos_embed": np.zeros(shape, np.float32)}
    model = create_model("test_vit", CLASSES, (192, 192, 3))
    with pytest.raises(InputError, match=r"they have pos_embed of shape .* instead of"):
        weights.load_torch(model, state)


@pytest.fixture(scope="module")
def safetensors(tmp_path_factory):
    """A file of `test_vit3` as timm publishes it, but for 10 classes."""
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(golden("test_vit3")[0], path)
    return path


def test_pretrained_is_a_file(safetensors):
    model = create_model("test_vit3", CLASSES, pretrained=safetensors)
    assert_close(model(make_timm.images(160)), golden("test_vit3")[1][160])


@pytest.mark.parametrize("classes", [0, 3])
def test_pretrained_with_another_head_keeps_the_body(safetensors, classes):
    model = create_model("test_vit3", classes, pretrained=str(safetensors))
    assert model.output_shape == (None, classes or 96)
    whole = converted("test_vit3").layers[: len(model.layers) - bool(classes)]
    for layer, other in zip(model.layers, whole, strict=False):
        for one, two in zip(layer.weights, other.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


def test_convert_is_one_command(safetensors, tmp_path, capsys):
    args = cli.parse(["convert", "test_vit3", str(safetensors), str(tmp_path / "net.keras")])
    args.main(args)
    printed = capsys.readouterr().out
    assert "test_vit3, 834,250 parameters" in printed
    assert "resized to 168 (bicubic), cropped to 160x160" in printed
    model = keras.saving.load_model(tmp_path / "net.keras")
    assert_close(model(make_timm.images(160)), golden("test_vit3")[1][160])


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "import tinyconv.layers, keras; load = keras.saving.load_model",
        "import keras, tinyconv.layers; load = keras.saving.load_model",
        "import tinyconv.layers, tensorflow as tf; load = tf.keras.models.load_model",
        "from tinyconv.saving import load_model; from pathlib import Path\n"
        "load = lambda file: load_model(Path(file))",
    ],
)
def test_a_layer_of_our_own_loads_after_its_import(program, tmp_path):
    converted("test_nfnet").save(tmp_path / "net.keras")
    np.save(tmp_path / "images.npy", make_timm.images(160))
    program += """
import sys, numpy as np
np.save(sys.argv[2], load(sys.argv[1])(np.load(sys.argv[3])))
"""
    run("-c", program, *(tmp_path / file for file in ("net.keras", "logits.npy", "images.npy")))
    assert_close(np.load(tmp_path / "logits.npy"), golden("test_nfnet")[1][160])


@pytest.mark.slow
def test_without_tinyconv_a_layer_of_our_own_is_named(tmp_path):
    converted("test_nfnet").save(tmp_path / "net.keras")
    program = "import sys, keras; keras.saving.load_model(sys.argv[1])"
    _, error = run("-c", program, tmp_path / "net.keras", status=1)
    assert "Could not locate class 'StandardizedConv2D'" in error


@pytest.mark.slow
def test_jax_answers_as_timm_does(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    converted("test_nfnet").save(tmp_path / "test_nfnet.keras")
    np.save(tmp_path / "images.npy", make_timm.images(160))
    program = """
import sys, numpy as np, tinyconv.layers, keras
file, images, logits = sys.argv[1:]
np.save(logits, keras.saving.load_model(file).predict(np.load(images), verbose=0))
assert "tensorflow" not in sys.modules
"""
    files = [tmp_path / file for file in ("test_nfnet.keras", "images.npy", "logits.npy")]
    run("-c", program, *files, KERAS_BACKEND="jax")
    assert_close(np.load(tmp_path / "logits.npy"), golden("test_nfnet")[1][160])


@pytest.mark.slow
def test_digits_are_trained_on_at_32_pixels(tmp_path):
    net = "test_byobnet"
    options = "--model", net, "--data", "digits", "--epoch", 1, "--batch", 128
    command("train", *options, "--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    assert saving.load_model(folder / "model.keras").input_shape == (None, 32, 32, 3)
