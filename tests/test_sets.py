"""Sets of TensorFlow Datasets and of the Hub: tiny ones, in the formats of their libraries."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import command, run
from PIL import Image

from tinyconv import data
from tinyconv.data import hub_sets, store, tensorflow_sets
from tinyconv.errors import InputError
from tinyconv.training.train import resume, train

SIZE = (32, 32)
NAMES = ["dark", "grey", "light"]
OPTIONS = {"recipe": "digits", "epochs": 1, "batch_size": 8, "augment": False}


def levels(count, channels=1, dtype=np.uint8):
    """Images of three classes that differ in brightness, each of its own size, and the labels."""
    rng = np.random.default_rng(count)
    white = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    return [
        ((rng.random((20 + i, 24, channels)) + i % 3) / 3 * white).astype(dtype)
        for i in range(count)
    ], [i % 3 for i in range(count)]


def check(dataset, **counts):
    """The images of each split are those of its labels, resized."""
    assert dataset.class_names == tuple(NAMES)
    assert dataset.counts() == {"train": 0, "holdout": 0, "test": 0} | counts
    for split in (dataset.train, dataset.test, dataset.holdout):
        if split is not None:
            brightness = split.images[np.arange(len(split))].mean((1, 2, 3)) // 85.5
            np.testing.assert_array_equal(brightness, split.labels)


def refused(spec, sentence, holdout=0):
    with pytest.raises(InputError) as caught:
        data.load(spec, SIZE, holdout)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


# TensorFlow Datasets


@pytest.fixture
def tfds(tmp_path):
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    tensorflow_datasets.core.add_data_dir(tmp_path)
    yield tensorflow_datasets
    tensorflow_datasets.core.utils.file_utils.clear_registered_data_dirs()


@pytest.fixture
def prepare(tfds, tmp_path):
    """A function that writes a set, as `download_and_prepare` does."""

    def write(name, splits, image=None, label=None, labels=None, channels=1, **more):
        image = image or tfds.features.Image(shape=(None, None, channels))
        features = {"image": image, "label": label or tfds.features.ClassLabel(names=NAMES), **more}
        examples = {}
        for split, count in splits.items():
            pictures, own = levels(count, channels, image.np_dtype)
            rows = zip(pictures, (labels or {}).get(split, own), strict=True)
            extra = {key: np.zeros((2, 2, 1), np.uint8) for key in more if key == "mask"}
            extra |= {key: 0 for key in more if key != "mask"}
            examples[split] = [
                (i, {"image": picture, "label": one} | extra)
                for i, (picture, one) in enumerate(rows)
            ]
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets=examples,
            data_dir=tmp_path,
        )
        return f"tfds:{name}"

    return write


def test_a_set_of_tfds_of_grey_images_of_many_sizes(prepare, capsys):
    spec = prepare("tiny_grey", {"train": 12, "test": 6, "unlabelled": 3})
    loaded = data.load(spec, SIZE, holdout=3)
    check(loaded, train=9, holdout=3, test=6)
    assert loaded.name == "tiny_grey" and loaded.test_name == "test"
    np.testing.assert_array_equal(loaded.train.images[..., 0], loaded.train.images[..., 2])
    assert f"{spec}: not used: split unlabelled" in capsys.readouterr().err


def test_the_splits_of_a_set_are_those_of_a_folder(prepare):
    check(data.load(prepare("two", {"train": 6, "validation": 3}), SIZE), train=6, test=3)
    whole = prepare("whole", {"train": 30})
    check(data.load(whole, SIZE), train=24, test=6)
    first, again = (data.load(whole, SIZE).test.images for _ in range(2))
    np.testing.assert_array_equal(first, again)
    three = prepare("three", {"train": 6, "validation": 3, "test": 6})
    check(data.load(three, SIZE), train=6, holdout=3, test=6)
    refused(
        three, "split validation, is already the part to validate on; leave out --holdout 3.", 3
    )
    refused(prepare("tested", {"test": 6}), "tfds:tested has test alone; it needs train and test")
    refused(prepare("both", {"train": 3, "dev": 3, "val": 3}), "only one of them can be the val.")
    refused(prepare("parts", {"a": 3, "b": 3}), "has a, b for splits; it needs train and test.")
    check(data.load(prepare("one", {"full": 30}), SIZE), train=24, test=6)


def test_a_split_without_labels_is_not_used(prepare, capsys):
    none = {"test": [-1] * 3}
    spec = prepare("hidden", {"train": 6, "validation": 3, "test": 3}, labels=none)
    loaded = data.load(spec, SIZE)
    check(loaded, train=6, test=3)
    assert loaded.test_name == "val"
    assert f"{spec}: not used: split test, which has no labels" in capsys.readouterr().err
    spec = prepare("unknown", {"train": 3, "test": 3}, labels={"train": [-1] * 3})
    refused(spec, "has no labels in split train; training needs them.")
    refused(prepare("blind", {"test": 3}, labels=none), "tfds:blind has no split with labels.")
    spec = prepare("some", {"train": 3, "test": 3}, labels={"train": [0, 1, -1]}, channels=3)
    assert "of split train of tfds:some has no label" in refused(spec, "Image ")


def test_a_class_without_training_images_is_refused(prepare):
    spec = prepare("strange", {"train": 3, "test": 3}, labels={"train": [0, 1, 0]})
    refused(spec, f"{spec}, split test, has class 'light', of which the split train has no image.")


def test_two_names_of_one_set(prepare):
    spec = prepare("grey", {"train": 6})
    for same in (spec, f"{spec}:1.0.0"):
        assert data.open_other(spec, same) is None
    for other in ("tfds:mnist", "tfds:mnits", "hf:me/grey", "grey", "digits"):
        assert data.open_other(spec, other)
    assert tensorflow_sets.is_same("tfds:eurosat", "tfds:eurosat:rgb")
    assert not tensorflow_sets.is_same("tfds:eurosat", "tfds:eurosat:all")


def test_16_bits_are_read_and_other_types_refused(prepare, tfds):
    deep = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
    check(data.load(prepare("deep", {"train": 6, "test": 3}, deep), SIZE), train=6, test=3)
    floats = tfds.features.Image(shape=(None, None, 1), dtype=np.float32)
    spec = prepare("floats", {"train": 6, "test": 3}, floats)
    refused(spec, "tfds:floats has images of type float32; only uint8 and uint16 are read.")


def test_sets_without_one_image_and_one_class_are_refused(tfds, prepare, capsys):
    for name, sentence in (
        ("voc", "has no column of type ClassLabel (image: Image, "),
        ("voc:2012", "tfds:voc:2012 has no column of type ClassLabel (image: Image, "),
        ("eurosat:all", "has no column of type Image (sentinel2: Tensor, label: ClassLabel, file"),
        ("iris", "has no column of type Image (features: Tensor, label: ClassLabel)"),
        ("dsprites", "of type ClassLabel; it needs one, as it is unclear which is meant."),
        ("lm1b", "has no column of type Image (text: Text)"),
    ):
        refused(f"tfds:{name}", sentence)
    masked = prepare(
        "masked", {"train": 6, "test": 3}, mask=tfds.features.Image(shape=(None, None, 1))
    )
    check(data.load(masked, SIZE), train=6, test=3)
    assert "tfds:masked: image is used, not mask" in capsys.readouterr().err


def test_names_that_tfds_does_not_know(tfds, monkeypatch):
    refused(
        "tfds:mnits", "TensorFlow Datasets has no set called 'mnits': did you mean 'tfds:mnist'?"
    )
    refused("tfds:xyzzy", "no set called 'xyzzy': its catalog has the names.")
    refused("tfds:eurosat:rbg", "Unknown configuration of tfds:eurosat 'rbg': did you mean 'rgb'?")
    refused("tfds:", "tfds: cannot be opened (ValueError: Parsing builder name string")
    refused("tfds:huggingface:mnist", "has no set called 'huggingface:mnist'")

    def offline(page, timeout):
        raise OSError("no network")

    monkeypatch.setattr(tensorflow_sets.urllib.request, "urlopen", offline)
    said = refused("tfds:kmnist", "tfds:kmnist is not prepared in ")
    assert "cannot be downloaded (OSError: no network): go online, set TFDS_DATA_DIR" in said
    assert not data.is_here("tfds:kmnist") and not data.is_here("tfds:mnits")


def test_a_damaged_set_is_refused(prepare, tmp_path):
    spec = prepare("torn", {"train": 6, "test": 3})
    (file,) = (tmp_path / "torn").rglob("*train*tfrecord*")
    file.write_bytes(file.read_bytes()[:-20])
    refused(spec, "cannot be read (DataLossError: ")


def test_a_set_that_does_not_fit_into_memory_is_kept_on_disk(prepare, monkeypatch):
    spec = prepare("large", {"train": 12, "test": 6})
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    loaded = data.load(spec, SIZE)
    assert isinstance(loaded.train.images, data.OnDisk)
    check(loaded, train=12, test=6)


@pytest.mark.slow
def test_cifar_by_its_name_in_tfds_is_cifar():
    where = os.environ.get("TFDS_DATA_DIR")
    if not data.is_here("cifar10"):
        pytest.skip(f"no CIFAR-10 in {where}")
    plain, named = (data.load(name, SIZE) for name in ("cifar10", "tfds:cifar10"))
    assert named.class_names == plain.class_names and named.counts() == plain.counts()
    for part in ("train", "test"):
        one, other = getattr(plain, part), getattr(named, part)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.images, other.images)


@pytest.mark.slow
def test_train_evaluate_export_and_resume(prepare, small, tmp_path, monkeypatch):
    spec = prepare("grey", {"train": 30})
    out = train(small, spec, out=tmp_path / "runs", **OPTIONS)
    assert out.name.endswith("-small-grey")
    facts = json.loads((out / "report.json").read_text())
    assert facts["run"]["data"] == spec and facts["images"] == {
        "train": 24,
        "holdout": 0,
        "test": 6,
    }
    moved = out.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    resume(moved, epochs=2)
    assert json.loads((moved / "report.json").read_text())["epochs"] == 2
    assert f"6 images of {spec}, its test part" in command("evaluate", moved)[0]
    other = prepare("other", {"train": 9})
    assert f"9 images of {other}, all of them" in command("evaluate", moved, "--data", other)[0]
    tested = prepare("tested", {"test": 6})
    printed, _ = command("evaluate", moved, "--data", tested)
    assert f"6 images of {tested}, all of split test" in printed
    for given, said in (((), "test images of grey"), (("--data", other), "images of other")):
        path = tmp_path / "-".join(("saved", *given)).replace(":", "-")
        printed, _ = command("export", moved, "--to", "savedmodel", "--out", path, *given)
        assert f"checked on {said}:" in printed
    assert "# small, trained on tfds:grey\n" in command("card", moved)[0] or (
        "trained on tfds:grey" in (moved / "README.md").read_text()
    )


@pytest.mark.slow
def test_a_user_sets_tfds_data_dir(prepare, tmp_path):
    prepare("grey", {"train": 30})
    given = ("--model", "resnet20", "--recipe", "digits", "--epoch", 1, "--out", tmp_path / "runs")
    printed, _ = run(
        "-m", "tinyconv", "train", "--data", "tfds:grey", *given, TFDS_DATA_DIR=str(tmp_path)
    )
    assert "resnet20 on grey" in printed


# The Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that writes a repository of Parquet files to a folder, which datasets reads."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: '.[hub-data]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def write(name, splits, image="image", label="label", kind=None, extra=(), channels=3):
        kind = kind or datasets.ClassLabel(names=NAMES)
        features = {image: datasets.Image(), label: kind} | dict(extra)
        for split, count in splits.items():
            pictures, labels = levels(count, channels)
            columns = {image: [Image.fromarray(p.squeeze()) for p in pictures], label: labels}
            columns |= {key: [0] * count for key, _ in extra}
            if isinstance(kind, datasets.Value) and kind.dtype == "string":
                columns[label] = [NAMES[i] for i in labels]
            file = tmp_path / name / "data" / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            own = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            own.to_parquet(file)
        return f"hf:{name}"

    return write


def test_a_set_of_the_hub(hub, capsys):
    spec = hub("me/tiny", {"train": 12, "test": 6}, image="img")
    loaded = data.load(spec, SIZE, holdout=3)
    check(loaded, train=9, holdout=3, test=6)
    assert loaded.name == "me-tiny"
    assert f"{spec} is read from the folder " in capsys.readouterr().err
    check(data.load(hub("me/grey", {"train": 30}, channels=1), SIZE), train=24, test=6)
    check(data.load(hub("me/val", {"train": 6, "validation": 3}), SIZE), train=6, test=3)
    assert data.open_other(spec, f"{spec}:default") is None
    assert data.open_other(spec, "hf:me/val") and data.open_other(spec, "tfds:mnist")
    assert data.is_here(spec) and not data.is_here("hf:nobody/nothing")


def test_columns_of_the_hub(hub, capsys):
    import datasets

    classes = datasets.ClassLabel(names=["a"])
    spec = hub("me/fine", {"train": 6, "test": 3}, label="fine_label", extra=[("coarse", classes)])
    check(data.load(spec, SIZE), train=6, test=3)
    assert f"{spec}: fine_label is used, not coarse" in capsys.readouterr().err
    spec = hub("me/both", {"train": 6}, extra=[("fine_label", classes)])
    refused(spec, "has the columns label, fine_label of type ClassLabel; it needs one")
    spec = hub("me/text", {"train": 6}, kind=datasets.Value("string"))
    refused(
        spec, "has no column of type ClassLabel (image: Image, label: string); it needs an Image"
    )
    spec = hub("me/numbers", {"train": 6}, kind=datasets.Value("int64"))
    refused(spec, "has no column of type ClassLabel (image: Image, label: int64)")


def test_a_repository_of_image_files_of_the_hub(hub, folder):
    """The rows have the paths of the files, not their contents."""
    home = folder.parent / "me" / "photos"
    home.parent.mkdir()
    folder.rename(home)
    photos = data.load("hf:me/photos", SIZE)
    assert photos.class_names == ("blue", "green", "red")
    expected = data.load(str(home), SIZE)
    for part in ("train", "test"):
        one, other = getattr(photos, part), getattr(expected, part)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_names_on_the_hub(hub):
    for spec in ("hf:tiny", "hf://me/tiny", "hf:a/b/c", "hf:../x"):
        refused(spec, f"{spec!r} is not the name of a data set on the Hub: hf:OWNER/NAME or")
    refused("hf:nobody/nothing", "hf:nobody/nothing cannot be loaded by the library datasets (")


def test_without_datasets_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(hub_sets.importlib.util, "find_spec", lambda name: None)
    refused("hf:me/x", "hf:me/x needs the library datasets: pip install 'tinyconv[hub-data]'.")
    assert not data.is_here("hf:me/x")


def test_rows_of_the_hub_without_an_image_or_a_label(hub):
    import datasets

    spec = hub("me/gaps", {"train": 6})
    (file,) = Path("me/gaps").rglob("*.parquet")
    whole = datasets.Dataset.from_parquet(str(file))
    rows = whole.cast_column("image", datasets.Image(decode=False)).to_list()
    for row, column, said in (
        (4, "image", f"Image 4 of split train of {spec} cannot be read as an image; replace or"),
        (5, "label", f"Image 5 of split train of {spec} has no label, or one without a name."),
        (0, "label", f"{spec} has no labels in split train; training needs them."),
    ):
        broken = [*rows[:row], rows[row] | {column: None}, *rows[row + 1 :]]
        datasets.Dataset.from_list(broken, features=whole.features).to_parquet(file)
        refused(spec, said)


def test_configurations_of_the_hub(hub):
    for name in ("one", "two"):
        hub(f"me/several/{name}", {"train": 6, "test": 3})
    parts = [
        f"- config_name: {name}\n  data_files:\n"
        + "".join(
            f"  - split: {part}\n    path: {name}/data/{part}-*\n" for part in ("train", "test")
        )
        for name in ("one", "two")
    ]
    Path("me/several/README.md").write_text(f"---\nconfigs:\n{''.join(parts)}---\n")
    check(data.load("hf:me/several:two", SIZE), train=6, test=3)
    assert data.load("hf:me/several:two", SIZE).name == "me-several-two"
    refused("hf:me/several", "Config name is missing. Please pick one among the available")
    refused("hf:me/several:three", "hf:me/several:three cannot be loaded by the library datasets")


@pytest.mark.slow
def test_train_and_evaluate_on_a_set_of_the_hub(hub, small, tmp_path):
    spec = hub("me/tiny", {"train": 24, "test": 6})
    out = train(small, spec, out=tmp_path / "runs", **OPTIONS)
    assert out.name.endswith("-small-me-tiny")
    resume(out, epochs=2)
    assert f"6 images of {spec}, its test part" in command("evaluate", out)[0]
    command("card", out)
    card = (out / "README.md").read_text()
    assert "datasets:\n- me/tiny\n" in card and "trained on hf:me/tiny" in card
