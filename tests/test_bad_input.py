"""What is refused, at every door: in one sentence, before anything is written, and never run."""

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image

from tinyconv import cli, create_model, data, plots, saving, weights
from tinyconv.errors import InputError

MARK = ROOT / "hostile code was run"


class Hostile:
    def __reduce__(self):
        return Path.touch, (MARK,)


# Each door takes what is wrong and gives a function that lays it out in a folder, `place`, and
# returns the call that must fail. `NPZ`, `NET` and `PLACE` in a command line are good files and
# that folder.


def command(main, *arguments):
    def prepare(place, npz):
        names = {"NPZ": npz, "NET": place / "net.keras", "PLACE": place}
        if "NET" in arguments:
            create_model("tiniest").save(names["NET"])
        given = [str(names.get(argument, argument)) for argument in arguments]
        return lambda: cli.run(lambda: main(given))

    return prepare


def training(*arguments):
    given = ("--data", "NPZ", "--epoch", "1", "--out", "PLACE", *arguments)
    return tool("train", *given)


def resuming(*arguments):
    return tool("train", "--resume", *arguments)


def timed(*arguments):
    return tool("time", "--out", "PLACE", *arguments)


def tool(*arguments):
    def main(given):
        args = cli.parse(given)
        args.main(args)

    return command(main, *arguments)


def arrays(**changes):
    """An .npz with some of its arrays changed, or left out if None."""

    def prepare(place, npz):
        with np.load(npz) as file:
            good = {key: file[key] for key in file if key != "class_names"}
        changed = {key: value for key, value in (good | changes).items() if value is not None}
        np.savez(place / "bad.npz", **changed)
        return lambda: data.load(str(place / "bad.npz"), (32, 32))

    return prepare


def loading(spec, holdout=0):
    return lambda place, npz: lambda: data.load(spec, (32, 32), holdout)


def file(name, content, read):
    """A file called `name` of some bytes, or made by a function of its path, and its reader."""

    def prepare(place, npz):
        path = place / name
        content(path) if callable(content) else path.write_bytes(content)
        return lambda: read(path)

    return prepare


def npz_file(content):
    return file("bad.npz", content, lambda path: data.load(str(path), (32, 32)))


def image(content, name="bad.png"):
    return file(name, content, lambda path: data.read_image(path, (32, 32)))


def keras_file(content):
    return file("bad.keras", content, saving.load_model)


def safetensors(content):
    return file("bad.safetensors", content, weights.read)


def pt(content):
    """A .pt file of some bytes, or of an object."""

    def write(path):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content(torch) if callable(content) else content, path)

    return file("bad.pt", write, weights.read)


def folder(files):
    """A folder of images: path within it -> bytes, or the size of a grey image."""

    def prepare(place, npz):
        for name, content in files.items():
            path = place / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, tuple):
                Image.new("L", content).save(path)
            else:
                path.write_bytes(content)
        return lambda: data.load(str(place / "photos"), (32, 32))

    return prepare


def creating(name, **options):
    return lambda place, npz: lambda: create_model(name, **options)


def npy(array=()):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz_with_pickle(path):
    hostile = np.array([Hostile()], dtype=object)
    np.savez(path, x_train=hostile, y_train=[0], x_test=[0], y_test=[0])


def png(width, height):
    """A PNG of that size by its header, with hardly anything in it."""

    def chunk(kind, content):
        ends = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return ends[0] + kind + content + ends[1]

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def png_with_text_bomb(path):
    """200 MB of text in a compressed chunk of a small picture."""
    content = b"note\0\0" + zlib.compress(bytes(200_000_000))
    whole = png(8, 8)
    chunk = b"zTXt" + content
    bomb = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole[:33] + bomb + whole[33:])


def hostile_lambda(path):
    """A model whose Lambda layer holds marshalled code."""
    source = f"lambda x: (__import__('pathlib').Path({str(MARK)!r}).touch(), x)[1]"
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Lambda(eval(source), output_shape=(3,))(x))
    model.save(path)
    MARK.unlink(missing_ok=True)  # building it ran it


def hostile_class(path):
    """A model whose configuration names a function of Python's own as a layer."""
    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    import zipfile

    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {
        "module": "os",
        "class_name": "system",
        "registered_name": "system",
        "config": {"command": f"touch '{MARK}'"},
    }
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as whole:
        for name, content in members.items():
            whole.writestr(name, content)


def cut(make, share):
    """`make(path)`, then the end taken off."""

    def write(path):
        make(path)
        os.truncate(path, int(path.stat().st_size * share))

    return write


def dense_alone(path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)


def two_classes(end):
    """Train on three classes from a model of two that ends otherwise than in a Dense layer."""

    def prepare(place, npz):
        layers = (keras.layers.Flatten(), keras.layers.Dense(2), end)
        keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(place / "two.keras")
        return training("--model", "two.keras")(place, npz)

    return prepare


NOT_AN_NPZ = "is not an .npz file of plain arrays; make it by np.savez."
NOT_A_MODEL = "cannot be opened as a Keras model."
HAS_CODE = "cannot be opened as a Keras model without running the code in its Lambda layer"
NOT_AN_IMAGE = "cannot be read as an image; replace or remove it."
MORE_THAN_TENSORS = "holds more than tensors"
TWO_CLASSES = {"red/1.png": (9, 9), "red/2.png": (9, 9), "blue/1.png": (9, 9)}

REFUSED = {
    # train.py
    "net misspelt": (training("--model", "cifar10_tniy"), "did you mean 'cifar10_tiny'?"),
    "recipe misspelt": (training("--recipe", "digit"), "Unknown recipe 'digit': did you mean"),
    "recipe file gone": (training("--recipe", "gone.toml"), "There is no file gone.toml."),
    "setting misspelt": (
        training("--set", "learning_rat=1"),
        "Unknown setting 'learning_rat': did you mean 'learning_rate'?",
    ),
    "setting without a value": (training("--set", "ema"), "--set ema has no value; give FIELD=V"),
    "setting in words": (
        training("--set", "mixup=much"),
        "is 'much'; it must be a number.",
    ),
    "setting out of range": (training("--set", "mixup=2"), "it must be 0 to 1."),
    "setting neither true nor false": (
        training("--set", "drop_remainder=1"),
        "is '1'; it must be true or false.",
    ),
    "setting of an unknown augmentation": (
        training("--set", "augment=crop,flop", "--augment"),
        "Unknown augmentation 'flop': did you mean 'flip'?",
    ),
    "setting that needs augmentation": (
        training("--set", "augment=crop"),
        "The setting augment needs augmentation; add --augment, too.",
    ),
    "setting that needs a teacher": (
        training("--set", "temperature=2"),
        "The setting temperature needs a teacher; add --teacher, too.",
    ),
    "setting given twice": (
        training("--set", "epochs=2"),
        "A setting and an argument give the epochs; leave one of the two out.",
    ),
    "decay without an optimizer that decays": (
        training("--set", "weight_decay=0.1"),
        "has the optimizer adam, which has no weight decay; set the optimizer to adamw or",
    ),
    "warmup of a constant rate": (
        training("--set", "warmup=0.1"),
        "has a warmup without a final_learning_rate, and its learning rate is therefore constant",
    ),
    "class weights misspelt": (
        training("--class-weights", "balance"),
        "Unknown class weights 'balance': did you mean 'balanced'?",
    ),
    "no number for the smoothing": (
        training("--set", "label_smoothing=1"),
        "is 1.0; it must be 0 or more and below 1.",
    ),
    "recipe to print misspelt": (tool("recipes", "moun"), "Unknown recipe 'moun': did you mean"),
    "data misspelt": (training("--data", "digts"), "did you mean 'digits'?"),
    "model gone": (training("--model", "gone.keras"), "There is no file gone.keras."),
    "model is a folder": (
        training("--model", "PLACE"),
        "is no run folder, since it has no model.keras.",
    ),
    "freeze a new net": (training("--freeze"), "--freeze needs a trained model"),
    "no epochs": (training("--epoch", "0"), "number of epochs is 0; it must be 1 to 1,000,000."),
    "too many epochs": (training("--epoch", "9" * 40), "it must be 1 to 1,000,000."),
    "epochs in words": (
        training("--epoch", "ten"),
        "argument -e/--epoch/--epochs: invalid int value",
    ),
    "no batch": (training("--batch", "0"), "The batch size is 0; it must be 1 to 1,000,000."),
    "negative batch": (training("--batch", "-3"), "The batch size is -3"),
    "batch of more than there is": (
        training("--batch", "49", "--recipe", "tiniest"),
        "there are only 48 training images and partial batches are dropped.",
    ),
    "negative seed": (training("--seed", "-1"), "The seed is -1; it must be in 0..2147483647."),
    "large seed": (training("--seed", str(2**31)), "it must be in 0..2147483647."),
    "negative holdout": (training("--holdout", "-1"), "The holdout is -1 images"),
    "holdout of everything": (training("--holdout", "48"), "Cannot hold out 48 of 48 images"),
    "out in a file": (training("--out", ROOT / "README.md"), "README.md (File exists)"),
    "out under a file": (training("--out", ROOT / "README.md/x"), "README.md/x (Not a directory)"),
    "out in /proc": (training("--out", "/proc/runs"), "Cannot write to /proc/runs"),
    "flag misspelt": (training("--epochs-in-all", "3"), "unrecognized arguments"),
    "resume and more": (resuming("PLACE", "--data", "x"), "--data cannot change on --resume"),
    "resume nothing": (resuming("gone"), "gone has no report.json; --resume needs the folder"),
    "resume a file": (resuming("NPZ"), "is not a run folder"),
    "no such TPU": (training("--tpu", "grpc://127.0.0.1:9"), "No TPU answers at 'grpc://127"),
    "too many GPUs": (training("--devices", "64"), "--devices is 64; the number of visible cpu"),
    "hosts without an index": (training("--hosts", "a:1,b:1"), "--hosts needs --host-index"),
    "an index without hosts": (training("--host-index", "1"), "--host-index needs --hosts"),
    "a host too few": (training("--hosts", "a:1,b:1", "--host-index", "2"), "it must be 0 to 1."),
    "a host without a port": (training("--hosts", "a,b", "--host-index", "0"), "is not HOST:PORT."),
    "a host twice": (training("--hosts", "a:1,a:1", "--host-index", "0"), "same HOST:PORT"),
    # timing.py
    "time an unknown net": (timed("--model", "tinyest"), "Unknown net 'tinyest'"),
    "time no batch": (timed("--batch", "0"), "--batch is 0; it must be at least 1."),
    "time no runs": (timed("--runs", "-1"), "--runs is -1; it must be at least 1."),
    "timing into a file": (timed("--out", ROOT / "README.md"), "Cannot write to"),
    # tinyconv
    "sum up an unknown net": (tool("summary", "tinyest"), "did you mean 'tiniest'?"),
    "evaluate nothing": (tool("evaluate", "gone.keras"), "There is no file gone.keras."),
    "evaluate a text": (tool("evaluate", ROOT / "README.md"), f"README.md {NOT_A_MODEL}"),
    "other classes": (tool("evaluate", "NET", "--data", "NPZ"), "has 10 classes, but"),
    "classes of other names": (
        tool("evaluate", "cifar10_tiny", "--data", "digits"),
        "digits has class '0', which the model does not know (airplane, automobile, bird,",
    ),
    "list what is not": (tool("list", "tinyest*"), "Unknown net 'tinyest*'"),
    "predict by an unknown net": (
        tool("predict", "tinyest", "x.png"),
        "tinyest is neither a .keras file nor a trained model that has a name; tinyconv list",
    ),
    "predict by weights that no one publishes": (
        tool("predict", "test_vit.r160_in21k", "x.png"),
        "Unknown weights 'test_vit.r160_in21k': did you mean 'test_vit.r160_in1k'?",
    ),
    "export to nowhere": (tool("export", "NET", "--to", "onxn"), "did you mean 'onnx'?"),
    "export no net": (
        tool("export", "gone.keras", "--to", "savedmodel"),
        "There is no file gone.keras.",
    ),
    "export over a folder": (
        tool("export", "NET", "--to", "savedmodel", "--out", "PLACE"),
        "is there already; remove it or choose",
    ),
    "export into /proc": (
        tool("export", "NET", "--to", "savedmodel", "--out", "/proc/1/x"),
        "Cannot write to /proc/1",
    ),
    "export by no images": (
        tool("export", "NET", "--to", "savedmodel", "--images", "0"),
        "--images is 0; it must be at least 1.",
    ),
    "export by data that is not there": (
        tool("export", "NET", "--to", "savedmodel", "--data", "gone"),
        "Unknown data 'gone'",
    ),
    "no command": (tool("trian"), "invalid choice: 'trian'"),
    "convert nothing": (tool("convert", "tiniest", "gone.pt", "x.keras"), "no file gone.pt."),
    "convert an unknown net": (tool("convert", "tiny", "x.pt", "x.keras"), "Unknown net 'tiny'"),
    "convert over a file": (
        tool("convert", "tiniest", "x.pt", "NET"),
        "net.keras is there already; remove it or choose another.",
    ),
    "convert into /proc": (
        tool("convert", "tiniest", "x.pt", "/proc/1/x.keras"),
        "Cannot write to /proc/1",
    ),
    "convert another net": (
        tool("convert", "resnet20", "NET", "x.safetensors"),
        "is a tiniest, not a resnet20.",
    ),
    "convert to another format": (
        tool("convert", "tiniest", "NET", "x.onnx"),
        "must end in .safetensors or .pt.",
    ),
    # data
    "no such folder": (loading("no/such/folder"), "no such file or folder"),
    "too small a holdout": (loading("digits", 5), "it must be 10 to 888"),
    "too large a holdout": (loading("digits", 898), "it must be 10 to 888"),
    "a set misspelt": (training("--data", "tfds:mnits"), "did you mean 'tfds:mnist'?"),
    "a set of texts": (tool("evaluate", "NET", "--data", "tfds:lm1b"), "has no column of type Ima"),
    "a set of no owner": (training("--data", "hf:cifar10"), "is not the name of a data set on the"),
    "a table for a folder": (training("--data", "gone.csv"), "Unknown data 'gone.csv' (cifar10,"),
    "a table without a header": (
        file("bad.csv", b"1.png,red\n", lambda path: data.load(str(path), (32, 32))),
        "bad.csv has '1.png, red'; it must name the columns image and label",
    ),
    "a table of what is not there": (
        file("bad.csv", b"image,label\n1.png,red\n", lambda path: data.load(str(path), (32, 32))),
        "1 of 1 images in ",
    ),
    "a range for a set": (
        training("--data", "tfds:mnist", "--data-range", "0", "1"),
        "--data-range is for the arrays of an .npz file; tfds:mnist needs none.",
    ),
    # arrays
    "no test labels": (arrays(y_test=None), "has no y_test; it needs x_train, y_train"),
    "flat": (arrays(x_train=np.zeros((48, 3072))), "has shape (48, 3072)"),
    "no images": (arrays(x_test=np.zeros((0, 32, 32, 3))), "has shape (0, 32, 32, 3)"),
    "too bright": (arrays(x_train=np.full((48, 32, 32, 3), 300)), "from 300 to 300"),
    "negative": (arrays(x_test=np.full((24, 32, 32, 3), -1)), "from -1 to -1"),
    "not a number": (arrays(x_test=np.full((24, 32, 32, 3), np.nan)), "from nan to nan"),
    "complex": (arrays(x_train=np.zeros((48, 32, 32, 3), complex)), "is of type complex128"),
    "few labels": (arrays(y_train=np.zeros(47, int)), "has shape (47,); 48 images need (48,)"),
    "no class": (arrays(y_train=np.zeros((48, 3), int)), "is not one-hot"),
    "negative label": (arrays(y_test=np.full(24, -1)), "has label -1"),
    "huge label": (arrays(y_train=np.full(48, 2**32)), "has label 4294967296"),
    "gap in labels": (arrays(y_train=np.arange(48) % 2 * 2), "goes up to 2, but has no 1"),
    "unseen label": (arrays(y_test=np.full(24, 3)), "with 3 classes labels are 0 to 2"),
    "one name": (arrays(class_names=np.array("red")), "it is a list of strings"),
    "names in numbers": (arrays(class_names=np.arange(3)), "it is a list of strings"),
    "a name twice": (arrays(class_names=np.array(["a", "b", "a"])), "has a name twice"),
    "names that are no text": (arrays(class_names=np.array([b"\xff", b"b", b"c"])), "is damaged"),
    # files of arrays
    "an .npy": (npz_file(npy()), NOT_AN_NPZ),
    "an empty file": (npz_file(b""), NOT_AN_NPZ),
    "text": (npz_file(b"not an archive"), NOT_AN_NPZ),
    "an archive cut short": (npz_file(b"PK\x03\x04" + bytes(100)), NOT_AN_NPZ),
    "a pickle": (npz_file(pickle.dumps(Hostile())), NOT_AN_NPZ),
    "a pickle in an .npz": (npz_file(npz_with_pickle), NOT_AN_NPZ),
    # images
    "text for an image": (image(b"not an image"), NOT_AN_IMAGE),
    "an image cut short": (image(cut(Image.new("RGB", (99, 99)).save, 0.5)), NOT_AN_IMAGE),
    "an image of a few lines": (image(png(80, 80)), NOT_AN_IMAGE),
    "60 megapixels": (image(png(10_000, 6_000)), "has 60,000,000 pixels; at most 50,000,000"),
    "100 megapixels": (image(png(10_000, 10_000)), "at most 50,000,000 are read."),
    "900 megapixels": (image(png(30_000, 30_000)), "at most 50,000,000 are read."),
    "a bomb of text": (image(png_with_text_bomb), NOT_AN_IMAGE),
    "floats for pixels": (image(Image.new("F", (8, 8)).save, "x.tif"), "has 32 bits a pixel"),
    # folders
    "an empty folder": (folder({"red/.keep": b""}), "it needs one subfolder of images per class"),
    "train alone": (folder({"train/red/1.png": (9, 9)}), "has train/ alone"),
    "an empty class": (folder({"red/1.png": (9, 9), "green/x": b""}), "green has no images"),
    "a class of one": (folder(TWO_CLASSES), "Every class needs at least two images"),
    "a damaged image": (
        folder({"red/1.png": b"\x89PNG", "blue/1.png": (9, 9)}),
        f"1.png {NOT_AN_IMAGE}",
    ),
    "an unseen class": (
        folder({"train/red/1.png": (9, 9), "test/blue/1.png": (9, 9)}),
        "has class 'blue', which",
    ),
    # trained models
    "a model of text": (keras_file(b"not a model"), NOT_A_MODEL),
    "a model cut short": (keras_file(cut(dense_alone, 0.7)), NOT_A_MODEL),
    "a model of no images": (keras_file(dense_alone), "is not a model from RGB images of one size"),
    "code in a model": (keras_file(hostile_lambda), HAS_CODE),
    "a function as a layer": (keras_file(hostile_class), NOT_A_MODEL),
    "no head to replace": (
        two_classes(keras.layers.LeakyReLU()),
        "two.keras tells 2 classes apart, not 3, and ends in LeakyReLU; only a Dense layer",
    ),
    "a softmax after no head": (
        two_classes(keras.Sequential([keras.layers.LeakyReLU(), keras.layers.Softmax()])),
        "two.keras puts out probabilities, and training needs logits; only a softmax in or right",
    ),
    "sigmoids": (
        two_classes(keras.layers.Dense(2, activation="sigmoid")),
        "that do not sum to one, as independent sigmoids do",
    ),
    # weights
    "safetensors of text": (safetensors(b"not tensors at all"), "is damaged or not a"),
    "safetensors of a long header": (safetensors(struct.pack("<Q", 2**60)), "is damaged or not a"),
    "weights in another format": (
        file("x.h5", b"", weights.read),
        "must end in .safetensors, .pt, .pth",
    ),
    "a .pt of text": (pt(b"not tensors"), "is not a file that torch.save wrote."),
    "a pickle for a .pt": (pt(pickle.dumps(Hostile())), MORE_THAN_TENSORS),
    "code in a .pt": (pt(Hostile()), MORE_THAN_TENSORS),
    "code in a state dict": (pt({"fc.bias": Hostile()}), MORE_THAN_TENSORS),
    "a .pt of a list": (pt([1, 2]), "is not a state dict"),
    "a .pt of numbers": (pt({"a": 1.5}), "is not a state dict"),
    "a sparse .pt": (pt(lambda t: {"a": t.eye(3).to_sparse()}), "is not a dense array"),
    "a complex .pt": (
        pt(lambda t: {"a": t.zeros(2, dtype=t.complex64)}),
        "is not a dense",
    ),
    # Python
    "too small for its pools": (
        creating("cifar10_tiny", input_shape=(2, 2, 3)),
        "cifar10_tiny cannot be built for images of 2x2; its own are 32x32.",
    ),
    "a flat shape": (creating("resnet20", input_shape=32), "it must be (height, width, 3)."),
    "half a class": (creating("resnet20", num_classes=2.5), "it must be 0 (no head) or more."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(case, npz, tmp_path, capsys, monkeypatch):
    prepare, sentence = REFUSED[case]
    call = prepare(tmp_path, npz)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InputError, SystemExit)) as caught:
        call()
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 2
        *usage, said = capsys.readouterr().err.splitlines()
        assert not usage or usage[0].startswith("usage:")
    else:
        said = str(caught.value)
        assert "\n" not in said
    assert sentence in said
    assert sorted(tmp_path.rglob("*")) == before
    assert not MARK.exists()


@pytest.mark.slow
def test_a_user_sees_one_line_and_no_traceback(npz, tmp_path):
    hostile_lambda(tmp_path / "bad model.keras")
    console = "from tinyconv import cli; cli.main()"
    for arguments, environment, sentence in (
        (("train.py", "--data", npz), {"KERAS_BACKEND": "bogus"}, "KERAS_BACKEND is 'bogus'"),
        (("-c", console, "summary", "tinyest"), {}, "Unknown net 'tinyest'"),
        (("train.py", "--model", tmp_path / "bad model.keras"), {}, HAS_CODE),
    ):
        out, err = run(*arguments, status=2, **environment)
        assert out == "" and "Traceback" not in err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert sentence in line
    assert not MARK.exists()


def test_odd_names_of_classes_are_read_and_drawn(tmp_path):
    names = ["$\\frac$", "two\nlines", "ünï çödé", os.fsdecode(b"caf\xe9")]
    for name in names:
        for i in range(3):
            path = tmp_path / "odd photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9)).save(path)
    photos = data.load(str(tmp_path / "odd photos"), (32, 32))
    assert sorted(photos.class_names) == sorted([*names[:3], "caf\ufffd"])
    plots.confusion(np.eye(4), photos.class_names, "of $\\frac", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000
