"""How a folder of images is read: its splits, classes, files and copies, or why it is refused."""

import importlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from tinyconv import cli, data, prediction
from tinyconv.data import files, layout, splits, store
from tinyconv.errors import InputError
from tinyconv.training.train import train

SIZE = (32, 32)
COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}


def photo(colour, rng):
    noisy = np.array(COLOURS[colour]) + rng.normal(0, 25, (40, 40, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def classes(folder, count=12, ending="png", kind="PNG", names=("red", "blue"), seed=0):
    """Different images of each class, in a folder each."""
    rng = np.random.default_rng((seed, *map(ord, str(folder)[-40:])))
    for name in names:
        for i in range(count):
            path = folder / name / f"{i}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(name if name in COLOURS else "red", rng).save(path, format=kind)
    return folder


def load(folder, holdout=0):
    return data.load(str(folder), SIZE, holdout)


def refused(folder, sentence, **options):
    with pytest.raises(InputError) as caught:
        load(folder, **options)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def split(folder, *parts, count=12):
    for part in parts:
        classes(folder / part, count)
    return folder


# Splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("training", "testing"),
        ("TRN", "TST"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_images", "test_images"),
        ("train2017", "test2017"),
        ("TrainImages", "TestImages"),
        ("my set - train", "my set - test"),
        ("trainset", "testset"),
        ("train/training", "test"),
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path, train, test):
    photos = load(split(tmp_path / "photos", train, test))
    assert photos.class_names == ("blue", "red") and photos.test_name == "test"
    assert photos.counts() == {"train": 24, "holdout": 0, "test": 24}


def test_names_of_splits_drawn_at_random(tmp_path):
    """Any word of the table, in any case, with any common prefix and suffix, is its split."""
    rng = np.random.default_rng(0)

    def draw(of):
        return of[rng.integers(len(of))]

    for number in range(200):
        roles = ("train", *draw([("test",), ("val",), ("test", "val")]))
        before, after = draw(["", "my_", "a b-", "2024-"]), draw(["", "_x", ".images", " 2"])
        folder, expected = tmp_path / str(number), {}
        for role in roles:
            word = "".join(draw([c.lower(), c.upper()]) for c in draw(layout.SPLITS[role]))
            expected[role] = folder / f"{before}{word}{after}"
            for name in ("cat", "dog"):
                (expected[role] / name).mkdir(parents=True)
        assert layout.find_splits(folder) == expected
        (folder / "something").mkdir()
        with pytest.raises(InputError, match="beside something/; move"):
            layout.find_splits(folder)


def test_names_of_classes_that_hold_a_word_of_a_split_are_classes(tmp_path):
    for names in (
        ("bullet_train", "car", "plane"),
        ("blood_test", "urine_test"),
        ("valid", "invalid"),
        ("contest", "trainer"),
        ("aeroplane", "bus", "train"),
        ("Train", "Bus"),
        ("dev_kit", "test_tube", "train_station", "house"),
    ):
        folder = classes(tmp_path / "-".join(names), 2, names=names)
        assert load(folder).class_names == tuple(sorted(names)), names


def test_val_is_validated_on(tmp_path):
    photos = load(split(tmp_path / "two", "train", "Validation"))
    assert photos.test_name == "val" and photos.counts()["test"] == 24
    folder = split(tmp_path / "three", "train", "val", "test")
    photos = load(folder)
    assert photos.counts() == {"train": 24, "holdout": 24, "test": 24}
    read = {part: load(folder / part) for part in ("train", "val", "test")}
    for part, whole in (("train", "train"), ("holdout", "val"), ("test", "test")):
        both = np.concatenate([read[whole].train.images, read[whole].test.images])
        got = getattr(photos, part).images
        assert set(splits.contents(got).tolist()) == set(splits.contents(both).tolist())
    refused(folder, "val is already the part to validate on; leave out --holdout 4.", holdout=4)
    assert load(tmp_path / "two", holdout=4).counts() == {"train": 20, "holdout": 4, "test": 24}


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("train/a", "Training/a", "test/a"), "has Training/ and train/; only one of them can be"),
        (("train/a", "dev/a", "eval/a"), "has dev/ and eval/; only one of them can be the val."),
        (("train/a", "test/a", "cats"), "named like a split, beside cats/; move the classes into"),
        (("test", "cats", "dogs"), "has test/, named like a split, beside cats/ and dogs/"),
        (("train", "test1"), "has train/, named like a split, beside test1/"),
        (("seg_train/a", "seg_test/a", "seg_pred"), "beside seg_pred/"),
        (("train_images/a", "test_set/a"), "test_set/ and train_images/, which may be splits or"),
        (("train/a", "train/b"), "has train/ alone; it needs train/ and test/ (or val/)"),
        (("test/a", "val/a"), "has val/ and test/ alone; it needs train/ and test/ (or val/)"),
        (("test/a",), "has test/ alone; it needs train/"),
        (("train", "test"), "train has no images, but 2 .png outside the class folders; it needs"),
        (("train/a", "train/b", "test"), "test has no images, but 2 .png outside the class"),
        (("train/a", "train/b", "val/c"), "val has class 'c', which"),
        (("train/a", "train/b", "test/c", "val/a"), "test has class 'c', which"),
        (("train/a", "test/a"), "train has one class, 'a'; a classifier needs at least two."),
        (("cats/train", "cats/test", "dogs"), "splits go above classes: "),
    ],
)
def test_splits_that_are_ambiguous_or_incomplete_are_refused(tmp_path, folders, sentence):
    for folder in folders:
        classes((tmp_path / folder).parent, 2, names=[Path(folder).name])
    refused(tmp_path, sentence)


def test_a_class_that_is_not_in_the_test_is_said(tmp_path, capsys):
    folder = split(tmp_path, "train", "test")
    (folder / "notes.txt").touch()
    for path in (folder / "test" / "blue").iterdir():
        path.unlink()
    (folder / "test" / "blue").rmdir()
    assert np.bincount(load(folder).test.labels, minlength=2).tolist() == [0, 12]
    said = capsys.readouterr().err
    assert f"{folder / 'test'} has no class 'blue'." in said
    assert f"{folder}: 1 file skipped: 1 .txt outside the class folders" in said


def test_one_class_is_refused_and_the_folder_that_was_meant_is_named(tmp_path, arrays):
    folder = classes(tmp_path / "zip" / "outer" / "photos").parent
    refused(folder, f"{folder} has one class, 'photos'; did you mean {folder / 'photos'}?")
    refused(folder.parent, f"has one class, 'outer'; did you mean {folder / 'photos'}?")
    one = classes(tmp_path / "one", names=["red"])
    refused(one, f"{one} has one class, 'red'; a classifier needs at least two.")
    one = {key: value * 0 if key[0] == "y" else value for key, value in arrays.items()}
    for names in ({}, {"class_names": ["a", "b"]}):
        np.savez(tmp_path / "one.npz", **one, **names)
        refused(tmp_path / "one.npz", "one.npz has one class, '")


def test_two_classes_of_one_name_in_print_are_refused(tmp_path):
    classes(tmp_path, 2, names=[os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8")])
    refused(tmp_path, "has two classes that both read 'caf\ufffd'; rename one.")


# Files


def test_hidden_folders_and_those_of_systems_hold_no_images(tmp_path, capsys):
    folder = classes(tmp_path / "photos")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN"):
        for place in (folder / name / "red", folder / "red" / name):
            place.mkdir(parents=True)
            photo("red", np.random.default_rng(0)).save(place / "copy.png")
    for junk in ("Thumbs.db", ".DS_Store", "desktop.ini", "._1.png"):
        (folder / "blue" / junk).write_bytes(b"\0")
    os.mkfifo(folder / "blue" / "pipe.png")
    assert load(folder).counts() == {"train": 20, "holdout": 0, "test": 4}
    assert "skipped" not in capsys.readouterr().err
    assert len(prediction.image_files([str(folder)])) == 24


def test_all_endings_of_pillow_are_images_and_what_is_skipped_is_counted(tmp_path, capsys):
    folder = classes(tmp_path / "photos")
    classes(folder, 10, "jfif", "JPEG", names=["red"])
    classes(folder, 5, "pgm", "PPM", names=["blue"])
    for i in range(20):
        (folder / "red" / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "blue" / "notes.txt").touch()
    (folder / "blue" / "Makefile").touch()
    photo("red", np.random.default_rng()).save(folder / "lost.png")
    assert sum(load(folder).counts().values()) == 39
    said = (
        f"{folder}: 23 files skipped: 20 .HEIC, 1 .png outside the class folders, 1 without an "
        "ending, 1 .txt (install pillow-heif to read HEIC)\n"
    )
    assert said in capsys.readouterr().err
    assert len(prediction.image_files([str(folder / "red"), str(folder / "blue" / "1.png")])) == 23
    said = f"{folder / 'red'}: 20 files skipped: 20 .HEIC (install pillow-heif to read HEIC)\n"
    assert capsys.readouterr().err == said


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", deny)
    refused(tmp_path, f"The folder {tmp_path} cannot be read (Permission denied).")


def test_image_suffixes_are_those_of_pillow_for_images():
    known = files.image_suffixes()
    assert {".jpg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".pgm", ".bmp", ".mpo"} <= known
    assert not {".pdf", ".eps", ".ps", ".mpg", ".wmf", ".emf", ".h5", ".txt", ".npz"} & known


def test_a_plugin_for_heic_is_registered(monkeypatch):
    def register():
        Image.register_open("HEIF", lambda *_: None)
        Image.register_extension("HEIF", ".heic")

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    for table in ("OPEN", "EXTENSION", "ID"):
        monkeypatch.setattr(Image, table, type(getattr(Image, table))(getattr(Image, table)))
    assert ".heic" in importlib.reload(files).image_suffixes()
    monkeypatch.undo()
    assert ".heic" not in importlib.reload(files).image_suffixes()


def test_links_are_followed_without_loops_and_no_file_counts_twice(tmp_path):
    stored = classes(tmp_path / "stored")
    folder = classes(tmp_path / "photos", 3)
    for name in COLOURS:
        (folder / name / "more").symlink_to(stored / name)
    (folder / "green").symlink_to(classes(tmp_path / "elsewhere", 5, names=["green"]) / "green")
    red = folder / "red"
    (red / "again").symlink_to(stored / "red")
    (red / "up").symlink_to("..")
    (red / "self").symlink_to(".")
    (red / "loop").symlink_to("loop")
    (red / "a copy.png").symlink_to("0.png")
    (red / "deep").mkdir()
    (red / "deep" / "down").symlink_to(red)
    photos = load(folder)
    assert photos.class_names == ("blue", "green", "red")
    labels = np.concatenate([photos.train.labels, photos.test.labels])
    assert np.bincount(labels).tolist() == [15, 5, 15]
    (red / "blue").symlink_to("../blue")
    refused(folder, "are one file in two classes.")


def test_a_real_file_is_taken_before_a_link_to_it(tmp_path):
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "z").mkdir()
    for name in ("b/1.png", "z/2.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "0.png").symlink_to("z/2.png")
    found = [str(path.relative_to(tmp_path)) for path in data.image_files(tmp_path)]
    assert found == ["b/1.png", "z/2.png"]


def test_all_damaged_images_are_named_at_once(tmp_path):
    folder = split(tmp_path / "photos", "train", "test")
    bad = [folder / name for name in ("train/red/3.png", "train/red/7.png", "test/blue/5.png")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:300])
    refused(
        folder,
        f"3 of 48 images in {folder} cannot be used, train/red/3.png, train/red/7.png, "
        "test/blue/5.png; the first cannot be read as an image; replace or remove it.",
    )
    for path in (folder / "train").glob("*/*.png"):
        path.write_bytes(b"")
    refused(folder, "25 of 48 images in")
    refused(folder, "train/blue/7.png and 15 more; the first cannot")


# Copies


def test_test_images_that_are_training_images_are_counted(tmp_path, capsys, arrays):
    folder = split(tmp_path / "photos", "train", "val", "test")
    for i in range(6):
        for name in COLOURS:
            source = folder / "train" / name / f"{i}.png"
            (folder / "test" / name / f"{i}.png").write_bytes(source.read_bytes())
    Image.open(source).save(folder / "val" / "red" / "0.bmp")  # the same pixels in another format
    (folder / "val" / "red" / "0.png").unlink()
    load(folder)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "12 of 24 test images are also training images.",
        "1 of 24 holdout images are also training images.",
    ]
    copied = arrays | {"x_test": np.concatenate([arrays["x_test"][:21], arrays["x_train"][:3]])}
    np.savez(tmp_path / "copied.npz", **copied)
    load(tmp_path / "copied.npz")
    assert capsys.readouterr().err == "3 of 24 test images are also training images.\n"


def test_copies_in_one_folder_stay_on_one_side(tmp_path, capsys):
    folder = classes(tmp_path / "photos", 20)
    plain = load(folder)
    for path in list(folder.glob("*/*.png")):
        for i in range(3):
            path.with_stem(f"{path.stem} ({i})").write_bytes(path.read_bytes())
    photos = load(folder)
    assert capsys.readouterr().err == ""
    assert photos.counts() == {"train": 128, "holdout": 0, "test": 32}
    np.testing.assert_array_equal(
        np.unique(splits.contents(plain.test.images)),
        np.unique(splits.contents(photos.test.images)),
    )


def test_a_class_of_copies_alone_is_split_and_said(tmp_path, capsys):
    folder = classes(tmp_path / "photos", 10)
    for path in (folder / "red").iterdir():
        path.write_bytes((folder / "red" / "0.png").read_bytes())
    assert np.bincount(load(folder).test.labels).tolist() == [2, 2]
    assert "2 of 4 test images are also training images." in capsys.readouterr().err


def test_a_folder_without_splits_is_split_as_ever(tmp_path):
    folder = classes(tmp_path / "photos", 15, names=["a", "b", "c"])
    photos = load(folder)
    names = sorted(path for name in "abc" for path in (folder / name).iterdir())
    labels = np.repeat(np.arange(3), 15)
    kept, held = splits.split_by_class(labels, 9, seed=0)
    for rows, part in ((kept, photos.train), (held, photos.test)):
        expected = [data.read_image(names[row], SIZE) for row in rows]
        np.testing.assert_array_equal(part.images, expected)
        np.testing.assert_array_equal(part.labels, labels[rows])


# A large folder


def test_a_large_folder_is_read_without_pread_and_by_several_threads(folder, monkeypatch):
    loaded = load(folder)
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    stored = load(folder)
    rows = [np.random.default_rng(i).integers(len(stored.train), size=8) for i in range(400)]
    with ThreadPoolExecutor(8) as threads:
        for order, read in zip(
            rows, threads.map(stored.train.images.__getitem__, rows), strict=True
        ):
            np.testing.assert_array_equal(read, loaded.train.images[order])


# tinyconv evaluate


@pytest.fixture
def run(tmp_path):
    """A model in a run folder, which knows red, green and blue by the brightest channel."""
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    facts = {"classes": ["red", "green", "blue"], "run": {"data": str(tmp_path / "own")}}
    (tmp_path / "run" / "report.json").write_text(json.dumps(facts))
    return tmp_path / "run" / "model.keras"


def evaluate(model, folder, capsys):
    capsys.readouterr()
    arguments = cli.parse(["evaluate", str(model), "--data", str(folder)])
    arguments.main(arguments)
    return capsys.readouterr().out


def test_evaluate_takes_all_of_a_folder_in_the_order_of_the_models_classes(run, tmp_path, capsys):
    folder = classes(tmp_path / "photos")
    said = evaluate(run, folder, capsys)
    assert f"24 images of {folder}, all of them, in 2 of the model's 3 classes\n" in said
    assert "24 of 24 images right" in said
    one = classes(tmp_path / "one", names=["blue"])
    assert "12 of 12 images right" in evaluate(run, one, capsys)
    for parts, where in (
        (["train", "test"], "test"),
        (["train", "Val"], "Val"),
        (["test"], "test"),
    ):
        folder = split(tmp_path / "-".join(parts), *parts, count=4)
        said = evaluate(run, folder, capsys)
        assert f"8 images of {folder}, all of {where}/, in 2 of" in said
        assert "8 of 8 images right" in said


def test_evaluate_on_the_folder_of_the_training_takes_what_was_held_out(run, tmp_path, capsys):
    folder = classes(tmp_path / "own", 10, names=["red", "green", "blue"])
    for path in (folder / "green").iterdir():
        image = np.zeros((9, 9, 3), np.uint8)
        image[..., 1] = 90 + int(path.stem)
        Image.fromarray(image).save(path)
    said = evaluate(run, folder, capsys)
    assert f"6 images of {folder}, its test part" in said and "6 of 6 images right" in said


def test_a_folder_called_cifar10_is_not_the_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "cifar10")
    assert data.open_other("./cifar10", "cifar10") and not data.open_other("./cifar10", "cifar10/")


def test_evaluate_refuses_classes_that_the_model_does_not_know(run, tmp_path, capsys):
    for folder, sentence in (
        (
            classes(tmp_path / "a", 2, names=["red", "Blue"]),
            "has class 'Blue', which the model does",
        ),
        (
            classes(tmp_path / "b" / "in").parent,
            f"red, green, blue); did you mean {tmp_path / 'b' / 'in'}?",
        ),
        (split(tmp_path / "c", "train"), f"has train/ alone; give {tmp_path / 'c' / 'train'} to"),
    ):
        with pytest.raises(InputError) as caught:
            evaluate(run, folder, capsys)
        assert sentence in str(caught.value)
    unnamed = tmp_path / "unnamed.keras"
    unnamed.write_bytes(run.read_bytes())
    with pytest.raises(InputError, match=r"unnamed.keras has 3 classes, but .*photos has 2\."):
        evaluate(unnamed, classes(tmp_path / "photos", 2), capsys)


def test_evaluate_says_in_which_order_it_takes_outputs_without_names(run, tmp_path, capsys):
    unnamed = tmp_path / "unnamed.keras"
    unnamed.write_bytes(run.read_bytes())
    folder = classes(tmp_path / "photos", 2, names=["x", "y", "z"])
    arguments = cli.parse(["evaluate", str(unnamed), "--data", str(folder)])
    arguments.main(arguments)
    said = "No report.json beside the model names its classes; its outputs are taken in the order "
    assert f"{said}of x, y, z.\n" in capsys.readouterr().err


def test_a_run_says_that_it_was_validated_on_val(small, tmp_path):
    folder = split(tmp_path / "photos", "train", "val")
    options = {"recipe": "digits", "epochs": 1, "batch_size": 8, "augment": False}
    out = train(small, folder, out=tmp_path / "runs", **options)
    facts = json.loads((out / "report.json").read_text())
    assert facts["validation"] == "val" and facts["test"]["images"] == 24
    table = (out / "report.txt").read_text().split("\n\n")[1]
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["train", "val"]


def test_the_page_on_folders_has_the_table_of_splits():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for part, words in layout.SPLITS.items():
        assert f"| {part} | {', '.join(f'`{word}`' for word in words)} |" in page
    assert len(page.splitlines()) <= 220


def test_two_levels_of_folders_that_may_be_the_classes_are_refused(tmp_path):
    for fold in ("fold1", "fold2"):
        classes(tmp_path / "folds" / fold)
    sentence = "has fold1/ and fold2/, each with blue/ and red/, and either may be the classes; "
    refused(tmp_path / "folds", sentence)
    photo("red", np.random.default_rng(0)).save(tmp_path / "folds" / "fold1" / "one.png")
    assert load(tmp_path / "folds").class_names == ("fold1", "fold2")
