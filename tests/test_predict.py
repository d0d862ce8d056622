"""`tinyconv predict` and `tinyconv list`, as a user runs them."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, command, run, wait_for
from PIL import Image

from tinyconv import prediction, trained
from tinyconv.errors import InputError
from tinyconv.fast import twin as twin_module

NET = "cifar10_tiny"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """One picture, saved in every common format, and what the model says of it."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
    picture = small.resize((96, 96), Image.Resampling.BICUBIC)
    folder = tmp_path_factory.mktemp("pictures")
    for ending in ("png", "bmp", "tif", "ppm", "webp", "gif", "jpg"):
        lossless = {"lossless": True} if ending == "webp" else {}
        picture.save(folder / f"rgb.{ending}", **lossless)
    return folder


@pytest.mark.slow
def test_formats_folders_and_globs(photo):
    pictures = (photo, photo / "*.png", photo / "rgb.jpg")
    out, _ = run("-m", "tinyconv", "predict", NET, "--json", *pictures)
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 9
    by_name = {Path(r["image"]).suffix: r["top"] for r in records}
    for same in (".bmp", ".tif", ".ppm", ".webp"):
        assert by_name[same] == by_name[".png"]
    names = trained.open_model(NET).class_names
    for top in by_name.values():
        assert len(top) == 5 and [names[entry["index"]] for entry in top] == [
            entry["class"] for entry in top
        ]
        shares = [entry["probability"] for entry in top]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-6


def test_bars_in_a_terminal(photo):
    out, _ = command("predict", NET, photo / "rgb.png", encoding="utf-8")
    first, *lines = out.splitlines()
    assert first.endswith("rgb.png") and len(lines) == 5
    assert lines[0].count("█") >= lines[1].count("█")


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(photo, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    bad = (tmp_path / "text.png", tmp_path / "gone.png", tmp_path / "empty", tmp_path / "*.jpg")
    out, err = command("predict", NET, "--json", *bad, photo / "rgb.png", status=2)
    records = [json.loads(line) for line in out.splitlines()]
    assert ["error" in record for record in records] == [True, True, True, True, False]
    *lines, last = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 4 and last == "error: 4 of 5 images have no answer."
    for words in ("text.png cannot be read as an image", "no file", "empty has no images."):
        assert words in err
    assert "Traceback" not in err


def test_a_missing_image_alone_is_an_error(tmp_path):
    _, err = command("predict", NET, tmp_path / "nope.png", status=2)
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        f"error: There is no file {tmp_path / 'nope.png'}.",
        "error: 1 of 1 images have no answer.",
    ]
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_batch_without_images_does_not_end_the_others(tmp_path):
    last = tmp_path / "last.png"
    Image.new("RGB", (32, 32)).save(last)
    missing = [tmp_path / str(i) for i in range(prediction.BATCH)]
    *errors, (_, answer) = prediction.answers(trained.open_model(NET).model, [*missing, last])
    assert all(isinstance(error, InputError) for _, error in errors)
    assert answer.sum() == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("many", [10, 1000], ids=["by the twin", "by Keras"])
def test_more_images_than_a_batch_stay_in_order(many, tmp_path, monkeypatch):
    twins = []
    monkeypatch.setattr(prediction, "TWIN_FROM", many)
    monkeypatch.setattr(
        twin_module, "twin", lambda *a, **k: twins.append(twin_module.fused(a[0])) or twins[-1]
    )
    model = trained.open_model(NET).model
    rng = np.random.default_rng(0)
    count = prediction.BATCH + 3
    images = rng.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:03}.png")
    (tmp_path / "005.png").write_text("no image")
    answers = list(prediction.answers(model, prediction.image_files([str(tmp_path)])))
    assert len(twins) == (many == 10)
    assert [file.name for file, _ in answers] == [f"{i:03}.png" for i in range(count)]
    logits = model.predict(images, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for i, (_, answer) in enumerate(answers):
        if i == 5:
            assert "005.png cannot be read" in str(answer)
        else:
            np.testing.assert_allclose(answer, expected[i], atol=1e-5)


def test_files_are_read_one_batch_ahead_of_the_answers(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        prediction.data,
        "read_image",
        lambda file, size, crop: read.append(file) or np.zeros((*size, 3)),
    )
    files = [tmp_path / str(i) for i in range(3 * prediction.BATCH)]
    for file in files:
        file.touch()
    next(prediction.answers(trained.open_model(NET).model, files))
    wait_for(lambda: len(read) == 2 * prediction.BATCH)
    time.sleep(0.1)
    assert len(read) == 2 * prediction.BATCH


def test_the_part_of_a_name_that_exists_is_literal_and_the_rest_a_glob(tmp_path, monkeypatch):
    odd = tmp_path / "a[1]"
    for file in ("photo [1].png", "b.png", "old.png/c.png", "old.png/new[2].jpg/d.jpg"):
        (odd / file).parent.mkdir(parents=True, exist_ok=True)
        (odd / file).touch()
    plain = [odd / name for name in ("b.png", "old.png/c.png", "photo [1].png")]
    below = odd / "old.png/new[2].jpg/d.jpg"
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1/e.png").touch()

    def found(*parts):
        return sorted(prediction.image_files([str(tmp_path.joinpath(*parts))]))

    assert found("a[1]", "photo [1].png") == [odd / "photo [1].png"]
    assert found("a[1]", "*.png") == sorted([*plain, below])
    assert found("a[1]") == sorted([*plain, below])
    assert found("a[1]", "old.png", "*") == sorted([odd / "old.png/c.png", below])
    assert found("a[1]", "old.png", "new[[]2]*", "*") == [below]
    assert found("a[1]", "**", "d.*") == [below]
    assert found("a[0-9]", "*.png") == [tmp_path / "a1/e.png"]
    assert found("a[1]", "*.bmp") == [tmp_path / "a[1]/*.bmp"]
    monkeypatch.chdir(odd)
    assert prediction.image_files(["b*"]) == [Path("b.png")]
    with pytest.raises(InputError, match="An image has an empty name"):
        prediction.image_files([""])


def test_a_folder_that_is_named_like_an_image_is_none(tmp_path):
    (tmp_path / "empty.png/sub.jpg").mkdir(parents=True)
    (answer,) = prediction.answers(
        trained.open_model(NET).model, prediction.image_files([str(tmp_path / "empty.png")])
    )
    assert str(answer[1]) == f"{tmp_path / 'empty.png'} has no images."


@pytest.mark.slow
def test_eight_threads_get_the_answers_of_one():
    model = trained.open_model(NET).model
    images = np.random.default_rng(0).integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
    for answer in (model, model.predict_on_batch):
        expected = [np.array(answer(image[None])) for image in images]
        with ThreadPoolExecutor(8) as threads:
            answered = list(threads.map(answer, [image[None] for image in images] * 8))
        for index, logits in enumerate(answered):
            np.testing.assert_allclose(logits, expected[index % 16], rtol=1e-6, atol=1e-6)


def test_without_a_report_classes_are_numbers_and_without_unicode_bars_are_plain(photo, tmp_path):
    file = tmp_path / "mine.keras"
    file.write_bytes((ROOT / "models" / NET / "model.keras").read_bytes())
    out, err = command("predict", file, photo / "rgb.png", encoding="ascii")
    _, *lines = out.splitlines()
    assert all(line.split()[0] in set("0123456789") for line in lines) and "#" in lines[0]
    assert "No report.json beside the model names its classes; they are numbers." in err


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Models as users save them, of two classes, red and blue; and images of them."""
    folder = tmp_path_factory.mktemp("cases")
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    def body(units, activation=None):
        start = keras.initializers.RandomNormal(stddev=0.2)
        head = keras.layers.Dense(units, activation, kernel_initializer=start)
        flat = (keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), head)
        return keras.Sequential([keras.Input((32, 32, 3)), *flat])

    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.ops.softmax(body(2)(image))).save(folder / "softmax_operation.keras")
    answer = keras.layers.Activation("linear")(body(2, "softmax")(image))
    keras.Model(image, answer).save(folder / "softmax_below.keras")
    body(1, "sigmoid").save(folder / "binary.keras")
    body(2).save(folder / "logits.keras")
    labels = np.arange(24) % 2
    colours = np.array([(200, 40, 40), (40, 40, 200)])[labels][:, None, None]
    images = np.clip(colours + rng.normal(0, 25, (24, 32, 32, 3)), 0, 255).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "two.npz", **arrays, class_names=["red", "blue"])
    Image.fromarray(images[0]).save(folder / "red.png")
    return folder


@pytest.mark.parametrize("name", ["softmax_operation", "softmax_below", "logits"])
def test_probabilities_and_loss_are_right_whatever_the_model_ends_in(name, cases):
    model, file = keras.models.load_model(cases / f"{name}.keras"), cases / f"{name}.keras"
    with np.load(cases / "two.npz") as two:
        images, labels = two["x_test"], two["y_test"]
    from_logits = name == "logits"
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits), metrics=["accuracy"]
    )
    outputs = model.predict(images[:1], verbose=0)[0]
    expected = keras.activations.softmax(outputs[None])[0] if from_logits else outputs
    out, _ = command("predict", file, "--json", cases / "red.png")
    for entry in json.loads(out)["top"]:
        assert entry["probability"] == pytest.approx(float(expected[entry["index"]]), rel=1e-4)
    out, _ = command("evaluate", file, "--data", cases / "two.npz")
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    assert f"accuracy {accuracy:.2%}" in out
    assert float(re.search(r"loss ([\d.]+),", out)[1]) == pytest.approx(loss, abs=1e-4, rel=1e-3)


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_one_output_is_refused(name, cases):
    arguments = {"predict": (cases / "red.png",), "evaluate": ("--data", cases / "two.npz")}
    file = cases / "binary.keras"
    out, err = command(name, file, *arguments[name], status=2)
    assert out == "" and "Traceback" not in err
    assert f"error: {file} has one output; each class needs an output of its own" in err


def test_a_model_with_a_softmax_is_trained_further(cases, tmp_path):
    """Its head, below the softmax, is a new one; what is saved puts out logits."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))
    file = tmp_path / "mine.keras"
    keras.Model(image, keras.ops.softmax(x)).save(file)
    arguments = ("--model", file, "--data", cases / "two.npz", "--epoch", 1, "--out", tmp_path)
    out, _ = command("train", *arguments, "--recipe", "finetune")
    assert f"{file}: its softmax is left out, because a model is trained on its logits" in out
    (saved,) = tmp_path.glob("*/model.keras")
    assert not trained.open_model(str(saved)).probabilities


def test_an_image_that_a_model_has_no_number_for_is_said(cases, tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(image)
    spread = keras.ops.std(x, axis=1, keepdims=True)  # 0 for a plain image
    file = tmp_path / "standardized.keras"
    keras.Model(image, keras.layers.Dense(2)(x / spread)).save(file)
    Image.new("RGB", (32, 32)).save(tmp_path / "plain.png")
    both = tmp_path / "plain.png", cases / "red.png"
    out, err = command("predict", file, "--json", *both, status=2)
    plain, red = map(json.loads, out.splitlines())
    assert plain["error"] == f"The model puts out NaN for {both[0]}." and "top" in red
    assert "error: 1 of 2 images have no answer." in err


def test_list_shows_size_accuracy_and_data():
    out, _ = command("list")
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines[NET][1:4] == ["170,282", "34.77", "32x32x3"]
    accuracy = trained.report(trained.path(NET))["test"]["accuracy"]
    assert lines[NET][4:6] == [f"{accuracy:.2%}", "cifar10"]
    assert lines["test_vit"][1:] == ["371,240", "29.80", "160x160x3", "-", "-", "-"]
    out, _ = command("list", "resnet*")
    assert [line.split()[0] for line in out.splitlines()] == [
        "net", "resnet20", "resnet32", "resnet44", "resnet56",
    ]  # fmt: skip


def test_list_needs_no_keras():
    code = "import sys; from tinyconv import cli; a = cli.parse(['list']); a.main(a)"
    run("-c", f"{code}; assert not {{'keras', 'tensorflow'}} & set(sys.modules)")


def test_a_run_folder_stands_for_its_model(tmp_path, capsys):
    run = trained.path("resnet20").parent
    assert trained.model_file(str(run)) == run / "model.keras"
    with pytest.raises(InputError, match=r"is no run folder, since it has no model\.keras\.$"):
        trained.model_file(str(tmp_path))
