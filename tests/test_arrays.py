"""Arrays of an .npz: what they may mean, and that what is unclear is refused."""

import json

import keras
import numpy as np
import pytest
from conftest import colours

from tinyconv import cli, create_model, data
from tinyconv.errors import InputError

SIZE = (32, 32)
X, Y = colours(24, seed=0)
NAMES = np.array(["red", "green", "blue"])


@pytest.fixture
def load(tmp_path):
    """A function that stores arrays, changed from good ones, and loads them again."""

    def store_and_load(data_range=None, **changed):
        good = {"x_train": X, "y_train": Y, "x_test": X[:12], "y_test": Y[:12]}
        np.savez(tmp_path / "a.npz", **(good | changed))
        return data.load(str(tmp_path / "a.npz"), SIZE, data_range=data_range)

    return store_and_load


def both(change):
    return {"x_train": change(X), "x_test": change(X[:12])}


def labelled(change):
    return {"y_train": change(Y), "y_test": change(Y[:12])}


REFUSED_RANGES = {
    "0 to 1.0001": (both(lambda x: x / x.max() * 1.0001), "give --data-range 0 1 if 0 is black"),
    "0 to 1.02": (both(lambda x: (x / x.max() * 1.02).astype("f2")), "give --data-range 0 1 if"),
    "0 to 1": (both(lambda x: (x / 255).astype("f4")), "give --data-range 0 1 if 0 is black"),
    "dark of 0 to 1": (both(lambda x: x / 255 * 0.3), "give --data-range 0 1 if 0 is black"),
    "masks": (both(lambda x: (x > 100).astype("u1")), "give --data-range 0 1 if 0 is black"),
    "4 bits": (both(lambda x: x // 16), "give --data-range 0 15 if 0 is black and 15 white"),
    "0 to 16": (both(lambda x: np.rint(x / x.max() * 16)), "give --data-range 0 16 if"),
    "dark bytes": (
        both(lambda x: x // 4),
        "give --data-range 0 63 if 0 is black and 63 white, or --data-range 0 255 if the images "
        "are that dark.",
    ),
    "-1 to 1": (both(lambda x: x / 127.5 - 1), "give --data-range -1 1 if -1 is black and 1 white"),
    "-0.5 to 0.5": (both(lambda x: x / 255 - 0.5), "give --data-range -0.5 0.5 if"),
    "int8": (both(lambda x: (x.astype(int) - 128).astype("i1")), "give --data-range -128 127 if"),
    "standardized": (both(lambda x: (x - 80.0) / 60), "they look standardized: undo that"),
    "10 bits": (both(lambda x: x.astype("u2") * 4), "give --data-range 0 1023 if"),
    "12 bits": (both(lambda x: x.astype("u2") * 16), "give --data-range 0 4095 if"),
    "16 bits": (both(lambda x: x.astype("u2") * 257), "give --data-range 0 65535 if"),
    "an overshoot": (both(lambda x: x * 1.04), "--data-range 0 255 clips what is outside"),
    "unusual": (both(lambda x: x.astype(int) + 51), "give --data-range LOW HIGH, the values of"),
    "not finite": (
        {"x_test": np.where(X[:12] > 9, X[:12], np.nan)},
        "every value must be a finite number",
    ),
    "one value": (both(lambda x: np.full_like(x, 200)), "images of a single value show nothing"),
    "one value in test": ({"x_test": X[:12] * 0}, "x_test runs from 0 to 0; scale them alike"),
    "unlike": (
        {"x_test": X[:12] / 255},
        "x_train runs from 0 to 249 and x_test runs from 0 to 0.976471; scale them alike",
    ),
    "unlike the other way": ({"x_train": (X / 16).astype("u1")}, "x_train runs from 0 to 15 and"),
    "unlike signs": (
        {"x_train": X / 127.5 - 1, "x_test": X[:12] / 255},
        "scale them alike, as both must have the same range.",
    ),
    "bool and numbers": ({"x_train": X > 100}, "of types bool and uint8"),
}


@pytest.mark.parametrize("case", REFUSED_RANGES)
def test_values_that_are_not_0_to_255_are_refused(case, load):
    changed, sentence = REFUSED_RANGES[case]
    with pytest.raises(InputError) as caught:
        load(**changed)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data_range, change",
    [
        ((0, 1), lambda x: x / 255),
        ((0, 1), lambda x: (x / 255 * 1.0001).astype("f4")),
        ((-1, 1), lambda x: x / 127.5 - 1),
        ((-128, 127), lambda x: (x.astype(int) - 128).astype("i1")),
        ((0, 65535), lambda x: x.astype("u2") * 257),
        ((0, 255), lambda x: x),
    ],
)
def test_a_stated_range_gives_the_same_images(data_range, change, load):
    loaded = load(data_range, **both(change))
    np.testing.assert_array_equal(loaded.train.images, X)
    np.testing.assert_array_equal(loaded.test.images, X[:12])


def test_only_a_slight_overshoot_is_clipped(load):
    images = load((0, 255), **both(lambda x: x * 1.04 - 2)).train.images
    assert images.min() == 0 and images.max() == 255
    assert load((0, 255), **both(lambda x: x // 4)).train.images.max() == 62


@pytest.mark.parametrize(
    "data_range, changed, sentence",
    [
        ((0, 1), {}, "x_train runs from 0 to 249 and x_test runs from 0 to 249, which is not"),
        ((0, 1), both(lambda x: x / 200), "which is not --data-range 0 1: at most 5% of the range"),
        ((0, 255), both(lambda x: x / 255), "uses too small a part of that range"),
        ((0, 65535), both(lambda x: x.astype("u2") * 16), "uses too small a part of that range"),
        ((-1, 1), both(lambda x: x / 255), "uses too small a part of that range"),
        ((0, 255), {"x_test": X[:12] / 255}, "scale them alike"),
        ((0, 255), both(lambda x: x > 100), "are bool; they need no --data-range"),
        ((1, 0), {}, "--data-range is 1 0; it must be the value of black, then that of white"),
        ((0, float("nan")), {}, "--data-range is 0 nan; it must be"),
        ((0, float("inf")), {}, "--data-range is 0 inf; it must be"),
        ("ab", {}, "The data range is 'ab'; it must be two numbers"),
        ([1], {}, "The data range is [1]; it must be two numbers"),
    ],
)
def test_a_stated_range_that_does_not_fit_is_refused(data_range, changed, sentence, load):
    with pytest.raises(InputError) as caught:
        load(data_range, **changed)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_range_is_for_arrays_alone(folder):
    for spec in ("digits", "cifar10", str(folder)):
        with pytest.raises(InputError, match=r"--data-range is for the arrays of an \.npz file"):
            data.load(spec, SIZE, data_range=(0, 1))


SHAPES = {
    "(N, 3, H, W)": (lambda x: x.transpose(0, 3, 1, 2), X, "x_train is (N, 3, H, W)"),
    "(N, 1, H, W)": (lambda x: x[:, None, ..., 0], X[..., :1], "x_train is (N, 1, H, W)"),
    "(N, H, W)": (lambda x: x[..., 0], X[..., :1], None),
    "bool": (lambda x: x > 100, np.uint8(255) * (X > 100), "x_train and x_test are bool; False"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_images_that_can_mean_one_thing_only_are_read(case, load, capsys):
    change, expected, said = SHAPES[case]
    loaded = load(**both(change))
    np.testing.assert_array_equal(loaded.train.images, np.broadcast_to(expected, X.shape))
    printed = capsys.readouterr().err
    assert (said in printed) if said else ".npz: " not in printed


@pytest.mark.parametrize("shape", [(3, 32, 3), (1, 32, 3), (32, 3), (3, 32), (1, 784), (3, 8, 1)])
def test_images_that_can_mean_more_are_refused(shape, load):
    x = np.resize(X, (24, *shape))
    with pytest.raises(InputError, match="may mean more than one order of its axes"):
        load(x_train=x, x_test=x[:12])


@pytest.mark.parametrize("shape", [(32, 32, 4), (32, 32, 2), (3072,), (), (1, 1, 32, 32, 3)])
def test_other_shapes_are_refused(shape, load):
    x = np.resize(X, (24, *shape))
    with pytest.raises(InputError, match=r"has shape .*; images are"):
        load(x_train=x, x_test=x[:12])


def test_dark_bytes_are_read_with_a_word(load, capsys):
    loaded = load(x_train=X // 3)
    np.testing.assert_array_equal(loaded.train.images, X // 3)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if ".npz: " in x]
    assert "x_train runs from 0 to 83; it is read as dark images in 0 to 255" in line


ALPHABET = ("blue", "green", "red")
LABELS = {
    "one-hot": (lambda y: np.eye(3)[y], {}, tuple("012"), "y_train and y_test: one-hot rows"),
    "one-hot bool": (lambda y: np.eye(3)[y] > 0, {}, tuple("012"), "one-hot rows"),
    "floats": (lambda y: y.astype("f4"), {}, tuple("012"), "float32 of whole numbers"),
    "a column of floats": (lambda y: y[:, None] * 1.0, {}, tuple("012"), "float64 of whole"),
    "names": (lambda y: NAMES[y], {}, ALPHABET, "names; classes are in the order of the alphabet"),
    "bytes": (lambda y: NAMES.astype("S")[y], {}, ALPHABET, "in the order of the alphabet"),
    "names and class_names": (
        lambda y: NAMES[y],
        {"class_names": ["unused", *NAMES]},
        ("unused", *NAMES),
        "names; classes are in the order of class_names",
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_can_mean_one_thing_only_are_read(case, load, capsys):
    change, more, names, said = LABELS[case]
    loaded = load(**labelled(change), **more)
    assert loaded.class_names == names
    true = Y if names == tuple("012") else [names.index(NAMES[label]) for label in Y]
    np.testing.assert_array_equal(loaded.train.labels, true)
    np.testing.assert_array_equal(loaded.test.labels, true[:12])
    assert loaded.train.labels.dtype == np.int32
    (line,) = [x for x in capsys.readouterr().err.splitlines() if ".npz: " in x]
    assert said in line


REFUSED_LABELS = {
    "from 1 up": (
        labelled(lambda y: y + 1),
        "counts from 1 to 3, but has no 0; labels count from 0: subtract 1.",
    ),
    "from 1 up, named": (
        labelled(lambda y: y + 1) | {"class_names": NAMES},
        "with 3 classes labels are 0 to 2: subtract 1 if they count from 1.",
    ),
    "test from 1 up": ({"y_test": Y[:12] + 1}, "subtract 1 if they count from 1."),
    "a gap": (labelled(lambda y: y * 2), "goes up to 4, but has no 1; labels count up from 0"),
    "-1 and 1": (labelled(lambda y: y % 2 * 2 - 1), "has label -1; labels are 0 to 99999."),
    "fractions": (labelled(lambda y: y + 0.5), "has label 0.5; labels are whole numbers."),
    "nan": ({"y_train": Y * np.nan}, "has label nan; labels are 0 to"),
    "probabilities": (labelled(lambda y: np.eye(3)[y] * 0.9 + 0.03), "is not one-hot"),
    "several classes": (labelled(lambda y: 1 - np.eye(3)[y]), "is not one-hot"),
    "a row of zeros": ({"y_test": np.eye(3)[Y[:12]] * (Y[:12, None] > 0)}, "is not one-hot"),
    "one-hot of unlike widths": (
        {"y_train": np.eye(3)[Y], "y_test": np.eye(4)[Y[:12]]},
        "are for 3 and 4 classes; these must agree.",
    ),
    "one-hot beside class_names": (
        labelled(lambda y: np.eye(3)[y]) | {"class_names": NAMES[:2]},
        "are for 2 and 3 classes; these must agree.",
    ),
    "a name that train has not": (
        {"y_train": NAMES[Y % 2], "y_test": NAMES[Y[:12]]},
        "has the label 'blue', which y_train does not have.",
    ),
    "a name that class_names has not": (
        labelled(lambda y: NAMES[y]) | {"class_names": ["red", "green", "bleu"]},
        "has the label 'blue', which class_names does not have.",
    ),
    "names and numbers": ({"y_train": NAMES[Y]}, "is of numbers, but the other labels are names;"),
    "an empty name": (labelled(lambda y: np.array(["", "b", "c"])[y]), "has an empty string"),
    "a lone surrogate": (labelled(lambda y: np.array(["\ud800", "b", "c"])[y]), "is damaged"),
    "one class": (labelled(lambda y: y * 0), "has one class, '0'"),
    "a class of test alone": (
        {"y_train": Y % 2, "class_names": NAMES},
        "has class 'blue', of which y_train has no image.",
    ),
    "dates": (labelled(lambda y: y.astype("M8[s]")), "labels are integers from 0 up, or names."),
    "complex": (labelled(lambda y: y * 1j), "is of type complex128"),
    "of other images": ({"y_train": NAMES[Y[:5]]}, "24 images need (24,), or one-hot labels of"),
    "one label": ({"y_train": np.int64(1)}, "has shape ()"),
}


@pytest.mark.parametrize("case", REFUSED_LABELS)
def test_labels_that_are_unclear_are_refused(case, load):
    changed, sentence = REFUSED_LABELS[case]
    with pytest.raises(InputError) as caught:
        load(**changed)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def train(*arguments):
    args = cli.parse(["train", *arguments])
    args.main(args)


@pytest.mark.slow
def test_a_run_keeps_its_range(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changed = {"x_train": X / 127.5 - 1, "x_test": X[:12] / 127.5 - 1}
    np.savez("signed.npz", **changed, y_train=Y, y_test=Y[:12])
    given = ["--data", "signed.npz", "--model", str(small), "--epoch", "1", "--batch", "12"]
    with pytest.raises(InputError, match="give --data-range -1 1"):
        train(*given)
    assert list(tmp_path.glob("models/*-*")) == []
    train(*given, "--data-range", "-1", "1")
    (run,) = tmp_path.glob("models/*-*")
    train("--resume", str(run), "--epoch", "2")
    report = json.loads((run / "report.json").read_text())
    assert report["epochs"] == 2 and report["run"]["data_range"] == [-1, 1]
    with pytest.raises(InputError, match=r"^--data-range cannot change on --resume"):
        train("--resume", str(run), "--data-range", "0", "1")
    capsys.readouterr()
    args = cli.parse(["evaluate", str(run / "model.keras")])
    args.main(args)
    assert f"{report['test']['accuracy']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_other_data_need_a_range_of_their_own(tmp_path, monkeypatch):
    model = create_model("resnet20", num_classes=3)
    run = {"data": "gone", "data_range": [0, 1]}
    model.save(tmp_path / "model.keras")
    (tmp_path / "report.json").write_text(json.dumps({"run": run, "classes": list("012")}))
    np.savez(tmp_path / "bytes.npz", x_train=X, x_test=X, y_train=Y, y_test=Y)
    given = ["evaluate", str(tmp_path / "model.keras"), "--data", str(tmp_path / "bytes.npz")]
    args = cli.parse(given)
    args.main(args)
    args = cli.parse([*given, "--data-range", "0", "1"])
    with pytest.raises(InputError, match="which is not --data-range 0 1"):
        args.main(args)
    keras.backend.clear_session()
