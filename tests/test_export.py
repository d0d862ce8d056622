"""What is exported answers as Keras does, or is refused."""

import shutil
import sys

import keras
import numpy as np
import pytest
from conftest import run
from PIL import Image
from sklearn.datasets import load_sample_images

from tinyconv import create_model, exporters, trained
from tinyconv.errors import InputError
from tinyconv.exporters import rewrite, samples

NETS = ("cifar10_tiny", "cifar10_tiny_half", "tiniest", "resnet20")
IMAGES = np.random.default_rng(0).integers(256, size=(16, 32, 32, 3), dtype=np.uint8)


def needs(*packages):
    for name in packages:
        pytest.importorskip(name, reason=f"{name} is not installed; it comes with tinyconv[export]")


def lively(name):
    """A net with random weights none of which is 0 or 1, as after training."""
    model = create_model(name)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        scale = 0.1 * np.abs(weight.numpy()).max() + 0.05
        weight.assign(weight.numpy() + rng.uniform(0, scale, weight.shape))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_rewritten_net_is_the_same_function(name):
    model = lively(name)
    rewritten = rewrite.rewritten(model)  # leaves it as it was, for another time
    expected = model.predict_on_batch(IMAGES)
    for other in (rewritten, rewrite.rewritten(model, onnx=True), rewrite.for_int8(rewritten)):
        answers = other.predict_on_batch(IMAGES)
        np.testing.assert_allclose(answers, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_rewriting_leaves_no_layer_that_runtimes_do_badly():
    depthwise = keras.layers.DepthwiseConv2D
    for name in NETS:
        for layer in rewrite.rewritten(create_model(name), onnx=True).layers:
            assert not (isinstance(layer, depthwise) and layer.depth_multiplier > 1)
            assert not (type(layer) is keras.layers.Conv2D and layer.groups > 1)
            assert not (
                type(layer) is keras.layers.Activation
                and layer.get_config()["activation"] == "gelu"
            )


def test_the_order_of_channels_is_kept_where_it_cannot_be_followed():
    """A depthwise convolution whose channels are added to others is left as it is."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(image)
    both = keras.layers.Add()([x, keras.layers.Activation("relu")(x)])
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalMaxPooling2D()(both)))
    images = IMAGES[:, :8, :8].astype("float32")
    rewritten = rewrite.rewritten(model)
    np.testing.assert_allclose(rewritten(images), model(images), rtol=1e-5)
    assert rewritten.layers[1].depth_multiplier == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_litert(name, tmp_path):
    needs("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    check = exporters.export(lively(name), "litert", tmp_path / "net.tflite", IMAGES)
    assert check.difference < 1e-4 and check.same == 1 and check.labels is None
    interpreter = Interpreter(str(tmp_path / "net.tflite"))
    kinds = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "DEPTHWISE_CONV_2D" in kinds or name == "resnet20"
    assert not [kind for kind in kinds if kind.startswith("Flex") or kind == "CUSTOM"]


@pytest.mark.slow
def test_int8_computes_no_means_but_by_products(tmp_path):
    """With them, XNNPACK's part of the file falls to pieces, at three times the time."""
    needs("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    model = lively("cifar10_tiny_half")
    exporters.formats()["litert-int8"].write(model, tmp_path / "net.tflite", IMAGES)
    interpreter = Interpreter(str(tmp_path / "net.tflite"))
    kinds = [operation["op_name"] for operation in interpreter._get_ops_details()]
    assert kinds.count("MEAN") == kinds.count("DEQUANTIZE") == 1  # of the head, of the logits
    assert "SQUARED_DIFFERENCE" not in kinds and "FULLY_CONNECTED" in kinds


def parts_of_photographs():
    """Ninety images of 32x32 pixels."""
    parts = [
        Image.fromarray(photo[top : top + 128, left : left + 128]).resize((32, 32))
        for photo in load_sample_images().images
        for top in range(0, 257, 64)
        for left in range(0, 513, 64)
    ]
    return np.stack(parts)


@pytest.mark.slow
def test_tiniest_survives_8_bits(tmp_path):
    """On parts of two photographs, which it takes for things of many classes."""
    needs("ai_edge_litert")
    images, model = parts_of_photographs(), create_model("tiniest", pretrained=True)
    form, path = exporters.formats()["litert-int8"], tmp_path / "net.tflite"
    form.write(model, path, images)
    expected = model.predict_on_batch(images)
    assert len(set(expected.argmax(-1))) > 4
    difference = np.abs(form.load(path)(images) - expected).max() / np.abs(expected).max()
    assert difference < 0.4  # 0.22; with the exponents as they are, 0.59


def test_another_net_is_the_same_function_in_8_bits():
    """Norms over other axes or without an affine part, names that new layers would take."""
    image = keras.Input((8, 8, 8))
    x = keras.layers.LayerNormalization(axis=1, name="a")(image)
    x = keras.layers.LayerNormalization(scale=False, name="b")(x)
    x = keras.layers.LayerNormalization(center=False, name="multiply")(x)
    x = keras.layers.Activation("exponential", name="add")(keras.layers.Rescaling(3.0)(x))
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(rewrite.for_int8(model)(images), model(images), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_onnx(name, tmp_path):
    needs("onnx", "onnxruntime", "tf2onnx")
    import onnx

    check = exporters.export(
        lively(name), "onnx", tmp_path / "net.onnx", IMAGES, np.arange(16) % 10
    )
    assert check.difference < 1e-4 and check.same == 1
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_openvino(name, tmp_path):
    needs("openvino")
    check = exporters.export(lively(name), "openvino", tmp_path / "net", IMAGES)
    assert check.difference < 1e-4 and check.same == 1
    assert {file.name for file in (tmp_path / "net").iterdir()} == {"model.xml", "model.bin"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiniest", "resnet20"])
def test_openvino_int8_is_smaller_and_nearly_the_same(name, tmp_path):
    needs("openvino", "nncf")
    images, model = parts_of_photographs(), create_model(name, pretrained=True)
    expected, logits = model.predict_on_batch(images), {}
    for kind in ("openvino", "openvino-int8"):
        form = exporters.formats()[kind]
        form.write(model, tmp_path / kind, images)
        logits[kind] = form.load(tmp_path / kind)(images)
    difference = np.abs(logits["openvino-int8"] - expected).max() / np.abs(expected).max()
    assert 1e-3 < difference < 0.4  # 0.22 and 0.15
    np.testing.assert_allclose(logits["openvino"], expected, atol=1e-4 * np.abs(expected).max())
    sizes = [(tmp_path / kind / "model.bin").stat().st_size for kind in logits]
    assert sizes[1] < 0.5 * sizes[0]


def test_savedmodel(tmp_path):
    model = lively("cifar10_tiny_half")
    check = exporters.export(model, "savedmodel", tmp_path / "net", IMAGES)
    assert check.difference < 1e-5 and check.size > 4 * 48_794
    with pytest.raises(InputError, match="is there already; remove it"):
        exporters.export(model, "savedmodel", tmp_path / "net", IMAGES)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is there already; remove it"):
        exporters.check_path(tmp_path / "file", exporters.get("savedmodel"))
    (tmp_path / "net.onnx").touch()
    with pytest.raises(InputError, match="is there already; remove it"):
        exporters.check_path(tmp_path / "net.onnx", exporters.formats()["onnx"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "ending"), [("litert", "tflite"), ("litert-int8", "tflite"), ("onnx", "onnx")]
)
def test_a_file_that_disagrees_is_refused_and_gone(target, ending, tmp_path, monkeypatch):
    form = exporters.formats()[target]
    needs(*form.packages)

    def write(model, path, images):
        wrong = keras.models.clone_model(model)  # with new weights
        form.write(wrong, path, images)

    broken = exporters.Format(**(vars(form) | {"write": write}))
    monkeypatch.setitem(exporters.formats(), target, broken)
    with pytest.raises(InputError, match="disagrees with Keras and was removed"):
        exporters.export(lively("resnet20"), target, tmp_path / f"net.{ending}", IMAGES)
    assert not list(tmp_path.iterdir())


def test_a_nan_does_not_agree():
    logits = np.eye(3, dtype=np.float32)
    check = exporters.Check(np.where(logits == 1, np.nan, logits), logits, None, 0.0, 0)
    for form in exporters.formats().values():
        assert not check.agrees(form)


def test_an_unknown_format_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(InputError, match="Unknown format 'onxn': did you mean 'onnx'"):
        exporters.get("onxn")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnx needs .*: pip install 'tinyconv\[export\]'"):
        exporters.get("onnx")


def test_a_module_in_exporters_adds_its_format(tmp_path, monkeypatch):
    code = "from tinyconv.exporters import Format\nFORMATS = {'json': Format('.json', None, None)}"
    (tmp_path / "a_runtime.py").write_text(code)
    monkeypatch.setattr(exporters, "__path__", [*exporters.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tinyconv.exporters.a_runtime", raising=False)
    found = exporters.formats.__wrapped__()
    shipped = [
        "litert",
        "litert-int8",
        "micro",
        "onnx",
        "openvino",
        "openvino-int8",
        "savedmodel",
        "web",
    ]
    assert sorted(found) == ["json", *shipped]
    assert found["json"].tail == ".json"


NAMES = ("yellow", "red", "green", "blue")


def brightest(names=NAMES, own=None):
    """A model that knows `NAMES`: the brightest channel, and yellow never."""
    image = keras.Input((32, 32, 3))
    channels = keras.layers.GlobalAveragePooling2D()(image)
    kernel = np.eye(3, 4, k=1)
    constant = keras.initializers.Constant(kernel)
    logits = keras.layers.Dense(4, kernel_initializer=constant)(channels)
    return trained.Trained(keras.Model(image, logits), names, own)


def right(model, chosen):
    """The share of images whose class is the label."""
    answers = model.predict_on_batch(chosen.images.astype("float32")).argmax(-1)
    return (answers == chosen.labels).mean()


def contents(images):
    return {image.tobytes() for image in images}


def test_another_folder_is_checked_whole_in_the_classes_of_the_model(folder):
    """As `tinyconv evaluate` reads it: 3 of the model's 4 classes, in another order."""
    opened = brightest(own=str(folder.parent / "own"))
    chosen = samples.choose(opened, str(folder), 1000, None)
    assert chosen.what == "images of photos"
    assert len(chosen.images) == len(chosen.calibration) == 48
    assert right(opened.model, chosen) == 1
    assert np.bincount(chosen.labels).tolist() == [0, 16, 16, 16]


def test_calibration_takes_other_images_where_there_are_enough(folder, monkeypatch):
    monkeypatch.setattr(samples, "CALIBRATION", 8)
    chosen = samples.choose(brightest(), str(folder), 40, None)
    assert len(chosen.images) == 40 and len(chosen.calibration) == 8
    assert not contents(chosen.images) & contents(chosen.calibration)
    assert len(samples.choose(brightest(), str(folder), 41, None).calibration) == 8


def test_the_folder_of_the_training_is_checked_on_what_was_held_out(folder):
    opened = brightest(own=str(folder))
    for spec in (None, str(folder)):
        chosen = samples.choose(opened, spec, 1000, None)
        assert chosen.what == "test images of photos"
        assert len(chosen.images) == 9 and len(chosen.calibration) == 39
        assert not contents(chosen.images) & contents(chosen.calibration)
        assert right(opened.model, chosen) == 1


def test_a_folder_with_splits_is_calibrated_on_its_training_images(folder):
    both = folder.parent / "both"
    shutil.copytree(folder, both / "train")
    shutil.copytree(folder, both / "val", ignore=shutil.ignore_patterns("[0-3]?.png"))
    chosen = samples.choose(brightest(), str(both), 1000, None)
    assert chosen.what == "val images of both"
    assert len(chosen.images) == 18 and len(chosen.calibration) == 48
    (both / "train").rename(folder.parent / "moved")
    (both / "val").rename(both / "test")
    chosen = samples.choose(brightest(), str(both), 1000, None)
    assert chosen.what == "images of both" and len(chosen.images) == 18


@pytest.mark.parametrize("names", [("a", "b", "c", "d"), ("red", "green", "a", "b"), None])
def test_classes_that_the_model_does_not_know_have_no_labels(names, folder, npz):
    """`None`: nothing names the model's 4 classes, and the data have 3."""
    for spec in (folder, npz):
        assert samples.choose(brightest(names), str(spec), 1000, None).labels is None


def test_without_data_the_check_is_on_noise(tmp_path):
    chosen = samples.choose(brightest(own=str(tmp_path / "gone")), None, 300, None)
    assert chosen.what.startswith("noise") and chosen.labels is None
    assert chosen.images.shape == (300, 32, 32, 3) and len(chosen.calibration) == 200


@pytest.mark.slow
def test_a_model_from_a_file_is_exported(npz, tmp_path):
    """Its operations have names that a new process would give again."""
    needs("onnx", "onnxruntime", "tf2onnx")
    arguments = ("tiniest", "--to", "onnx", "--out", tmp_path / "net.onnx", "--data", npz)
    out, _ = run("-m", "tinyconv", "export", *arguments, "--images", 12)
    assert "100.00% of 12 images in the same class as by Keras" in out


@pytest.mark.slow
def test_int8_by_command(tmp_path):
    """The trained net on data that is not its own: compared with Keras, but no accuracy.

    On noise its answers are clear; on images of plain colours 8 bits change more than one in ten.
    """
    needs("ai_edge_litert")
    labels = np.arange(len(IMAGES)) % 2
    arrays = {"x_train": IMAGES, "y_train": labels, "x_test": IMAGES, "y_test": labels}
    np.savez(tmp_path / "noise.npz", **arrays, class_names=["odd", "even"])
    target = tmp_path / "small.tflite"
    arguments = ("cifar10_tiny", "--to", "litert-int8", "--out", target)
    data = ("--data", tmp_path / "noise.npz", "--images", 12)
    out, _ = run("-m", "tinyconv", "export", *arguments, *data)
    assert f"{target}, checked on test images of noise:" in out
    assert "of 12 images in the same class as by Keras" in out and "accuracy" not in out
    assert target.stat().st_size < trained.path("cifar10_tiny").stat().st_size / 2


@pytest.mark.slow
@pytest.mark.parametrize("targets", [("litert-int8", "onnx"), ("openvino-int8",)])
def test_converters_print_nothing_that_is_no_use_to_a_user(targets, tmp_path):
    """But for two lines of C++, which no setting turns off."""
    code = """
import sys
from tinyconv import cli
for target, out in zip(sys.argv[1::2], sys.argv[2::2]):
    options = ["--out", out, "--data", "digits", "--images", "12"]
    cli.main(["export", "resnet20", "--to", target, *options])
"""
    given = []
    for target in targets:
        needs(*exporters.formats()[target].packages)
        given += [target, tmp_path / f"net{exporters.formats()[target].tail}"]
    out, err = run("-c", code, *given)
    assert out.count("of 12 images in the same class as by Keras") == len(targets)
    assert "━" not in out  # a bar
    lines = [x for x in err.splitlines() if not x.startswith(("INFO: Created", "fully_quantize:"))]
    assert lines == []
