"""A CSV file of images and labels: how it is read, or why it is refused."""

import json

import numpy as np
import pytest
from conftest import command

from tinyconv import data
from tinyconv.errors import InputError
from tinyconv.training.train import resume, train

SIZE = (32, 32)
PARTS = {"train": range(8), "val": range(8, 11), "test": range(11, 16)}  # of the 16 of each class


@pytest.fixture
def files(folder):
    """The images of the fixture `folder` by class, relative to its parent."""
    return {
        name: sorted(path.relative_to(folder.parent) for path in (folder / name).iterdir())
        for name in ("blue", "green", "red")
    }


def write(path, *rows, header="image,label"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def whole(files):
    return [f"{path},{name}" for name, paths in files.items() for path in paths]


def with_splits(files, parts):
    return [
        f"{files[name][i]},{name},{part}"
        for part, rows in parts.items()
        for i in rows
        for name in files
    ]


def refused(path, sentence, holdout=0):
    with pytest.raises(InputError) as caught:
        data.load(str(path), SIZE, holdout)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_is_read_as_the_folder_of_its_images(folder, files, tmp_path):
    expected = data.load(str(folder), SIZE)
    rows = whole(files)
    for name, own in (("labels.csv", rows), ("turned.CSV", rows[::-1])):
        table = data.load(str(write(tmp_path / name, *own)), SIZE)
        assert table.name == name.partition(".")[0]
        assert table.class_names == expected.class_names
        for part in ("train", "test"):
            one, other = getattr(table, part), getattr(expected, part)
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.images, other.images)


def test_the_splits_of_a_table(files, tmp_path, capsys):
    path = tmp_path / "labels.csv"
    header = "image,label,split"
    write(path, *with_splits(files, PARTS), header=header)
    table = data.load(str(path), SIZE)
    assert table.counts() == {"train": 24, "holdout": 9, "test": 15}
    refused(path, "labels.csv, split val, is already the part to validate on; leave out --hold", 4)
    write(path, *with_splits(files, {"Training": range(8), " dev ": range(8, 16)}), header=header)
    table = data.load(str(path), SIZE, holdout=6)
    assert table.counts() == {"train": 18, "holdout": 6, "test": 24} and table.test_name == "val"
    refused(
        write(path, *with_splits(files, {"train": range(8)}), header=header),
        "labels.csv has train alone; its column split needs train and test (or val).",
    )
    rows = with_splits({"red": files["red"]}, {"train": [0], "test": [1]})
    refused(write(path, *rows, header=header), "split train, has one class, 'red'; a classifier")
    rows = [*with_splits(files, {"train": [0, 1]}), f"{files['red'][2]},pink,test"]
    sentence = f"{path}, split test, has class 'pink', which {path}, split train, does not have."
    refused(write(path, *rows, header=header), sentence)
    capsys.readouterr()
    rows = [*with_splits(files, {"train": [0, 1]}), f"{files['red'][2]},red,test"]
    data.load(str(write(path, *rows, header=header)), SIZE)
    assert f"{path}, split test, has no class 'blue', 'green'." in capsys.readouterr().err


def test_what_a_table_may_look_like(files, tmp_path):
    """Columns in any order, others beside them, Excel's mark, quotation marks and empty lines."""
    rows = [f'{name} ,"{path}",12\r\n\r\n' for name, paths in files.items() for path in paths[:4]]
    text = "\ufeffLabel, Image ,width\r\n" + "".join(rows)
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    assert sum(data.load(str(path), SIZE).counts().values()) == 12
    absolute = [f"{tmp_path / row}" for row in whole(files)]
    write(tmp_path / "absolute.csv", *absolute)
    assert sum(data.load(str(tmp_path / "absolute.csv"), SIZE).counts().values()) == 48


def test_an_image_in_several_rows_counts_once(files, tmp_path):
    rows = whole(files)
    (tmp_path / "link.png").symlink_to(tmp_path / files["red"][0])
    path = write(tmp_path / "labels.csv", *rows, *rows[:9], "link.png,red", f"./{rows[0]}")
    assert sum(data.load(str(path), SIZE).counts().values()) == 48
    header = "image,label,split"
    both = with_splits(files, {"train": range(8), "test": range(7, 16)})
    refused(write(path, *both, header=header), "an image has one split.")
    write(path, *rows, "link.png,blue")
    first = rows.index(f"{files['red'][0]},red") + 2
    sentence = f"link.png the label 'red' in line {first}, but 'blue' in line 50; an image has one"
    refused(path, sentence)


def test_tables_that_are_refused(files, tmp_path):
    good = whole(files)
    path = tmp_path / "labels.csv"
    for rows, header, sentence in (
        (
            good,
            good[0],
            "labels.csv has 'photos/blue/11.png, blue'; it must name the columns image",
        ),
        (good, "image;label", "labels.csv has 'image;label'; it must name the columns image and "),
        (good, "image,label,label", "has 'image, label, label'; it must name the columns image"),
        ([], "image,label", "labels.csv has a header, but no rows; it needs a row for each image."),
        ([*good, "a.png"], "image,label", "line 50, has 1 cells, but the header has 2; put"),
        ([*good, "a,b.png,red"], "image,label", "line 50, has 3 cells, but the header has 2; put "),
        (
            [*good, "a.png, "],
            "image,label",
            "line 50, has no label; fill it in or remove the line.",
        ),
        ([*good, ",red"], "image,label", "line 50, has no image; fill it in or remove the line."),
        ([*good, "a.png,red", "b.png,red"], "image,label", "2 of 50 images in "),
        ([*good, "a.png,red"], "image,label", f"in line 50: {tmp_path / 'a.png'}; paths are rel"),
        (["x" * 300 + ".png,red"], "image,label", "1 of 1 images in"),
        (
            ["x" * 501 + ",red"],
            "image,label",
            "line 2, has in image no text of one line and at most 500 c",
        ),
        (["a.png,red\0"], "image,label", "line 2, has in label no text of one line and at most"),
        (["photos/red,red"], "image,label", "1 of 1 images in"),
        (["http://x/y.png,red"], "image,label", "1 of 1 images in"),
        (
            [f"{good[0]},hold"],
            "image,label,split",
            "line 2, has the split 'hold'; it must be train",
        ),
        ([f"{good[0]},"], "image,label,split", "line 2, has the split ''; it must be train, val"),
        (good[:16], "image,label", "labels.csv has one class, 'blue'; a classifier needs at least"),
        (['"a.png"x,red'], "image,label", "is not a CSV file in UTF-8 (',' expected after '\"')."),
    ):
        refused(write(path, *rows, header=header), sentence)
    for content, sentence in (
        (b"", "has 'nothing'; it must name the columns image and label, and optionally split"),
        ("image,label\nphotos/a.png,Käfer\n".encode("latin-1"), "is not a CSV file in UTF-8 ("),
        ("image,label\n".encode("utf-16"), "is not a CSV file in UTF-8 ("),
    ):
        path.write_bytes(content)
        refused(path, sentence)
    (tmp_path / "torn.png").write_bytes(b"no image")
    refused(write(path, *good, "torn.png,red"), "torn.png cannot be read as an image; replace or")
    (tmp_path / "photos" / "red" / "0.png").write_bytes(b"no image")
    sentence = (
        f"2 of 49 images in {path} cannot be used, {tmp_path}/photos/red/0.png, {tmp_path}/to"
    )
    refused(path, sentence)
    with pytest.raises(InputError, match=r"--data-range is for the arrays of an \.npz file"):
        data.load(str(path), SIZE, data_range=(0, 1))


def test_a_folder_of_images_beside_a_table_names_the_table(files, tmp_path, folder):
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = [f"{name}-{path.name},{name}" for name, paths in files.items() for path in paths]
    for name, paths in files.items():
        for path in paths:
            (tmp_path / path).rename(flat / f"{name}-{path.name}")
    write(flat / "labels.csv", *rows)
    refused(
        flat,
        f"it needs one subfolder of images per class, or --data {flat / 'labels.csv'}.",
    )
    assert data.load(str(flat / "labels.csv"), SIZE).counts()["train"] == 39


@pytest.mark.slow
def test_train_move_resume_evaluate_and_export(small, files, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "photos").rename(home / "photos")
    write(home / "labels.csv", *whole(files))
    monkeypatch.chdir(home)
    options = {"recipe": "digits", "epochs": 1, "batch_size": 8, "augment": False}
    out = train(small, "labels.csv", out="runs", **options)
    assert out.name.endswith("-small-labels")
    facts = json.loads((out / "report.json").read_text())
    assert facts["run"]["data"] == str(home / "labels.csv")
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "elsewhere"
    home.rename(moved)
    ran = moved / out
    resume(ran, epochs=2)
    facts = json.loads((ran / "report.json").read_text())
    assert facts["run"]["data"] == str(moved / "labels.csv") and facts["epochs"] == 2
    assert f"9 images of {moved / 'labels.csv'}, its test part" in command("evaluate", ran)[0]
    other = write(moved / "other.csv", *whole({"red": files["red"]}))
    said = f"16 images of {other}, all of them, in 1 of the model's 3 classes"
    assert said in command("evaluate", ran, "--data", other)[0]
    rows = with_splits(files, {"train": range(8), "test": range(8, 16)})
    other = write(moved / "split.csv", *rows, header="image,label,split")
    assert (
        f"24 images of {other}, all of split test" in command("evaluate", ran, "--data", other)[0]
    )
    for given, said in (((), "test images of labels"), (("--data", other), "test images of split")):
        path = tmp_path / f"saved-{len(given)}"
        printed, _ = command("export", ran, "--to", "savedmodel", "--out", path, *given)
        assert f"checked on {said}:" in printed
    (moved / "labels.csv").unlink()
    with pytest.raises(InputError, match=r"names the data .*labels\.csv, which do not exist"):
        resume(ran, epochs=3)


def test_the_split_of_a_table_does_not_depend_on_the_directory(
    folder, files, tmp_path, monkeypatch
):
    rows = whole(files)
    rows[::2] = [f"{tmp_path / row}" for row in rows[::2]]
    path = write(tmp_path / "labels.csv", *rows)
    expected = data.load(str(path), SIZE)
    monkeypatch.chdir(tmp_path)
    found = data.load(path.name, SIZE)
    np.testing.assert_array_equal(found.test.images, expected.test.images)


def test_spaces_before_quotation_marks_and_rows_without_cells_mean_nothing(files, tmp_path):
    rows = [row.replace(",", ', "') + '"' for row in whole(files)]
    table = data.load(str(write(tmp_path / "labels.csv", *rows, ",", " , ")), SIZE)
    assert table.class_names == ("blue", "green", "red")


def test_an_image_in_two_splits_and_a_label_of_two_lines_are_refused(files, tmp_path):
    header = "image,label,split"
    rows = with_splits(files, {"train": range(4), "test": range(3, 8)})
    path = write(tmp_path / "labels.csv", *rows, header=header)
    refused(path, "an image has one split.")
    path = write(tmp_path / "lines.csv", f'{files["red"][0]},"red\n"', f'{files["red"][1]},"a\nb"')
    refused(path, "has in label no text of one line and at most 200 characters.")
