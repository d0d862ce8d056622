import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import run
from PIL import Image

from tinyconv import data
from tinyconv.data import store
from tinyconv.errors import InputError

SIZE = (32, 32)
CIFAR10 = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / "cifar10"


def check(split, count, classes, size=SIZE):
    assert split.images.shape == (count, *size, 3) and split.images.dtype == np.uint8
    assert split.labels.shape == (count,) and split.labels.dtype == np.int32
    assert set(split.labels) == set(range(classes))


def test_digits_are_real_and_never_shared_between_the_splits():
    digits = data.load("digits", SIZE)
    check(digits.train, 898, 10)
    check(digits.test, 899, 10)
    assert digits.class_names == tuple("0123456789") and digits.holdout is None
    everything = np.concatenate([digits.train.images, digits.test.images])
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.exists(), reason=f"no CIFAR-10 in {CIFAR10.parent}")
def test_cifar10_is_whole():
    cifar = data.load("cifar10", SIZE, holdout=5000)
    check(cifar.train, 45000, 10)
    check(cifar.test, 10000, 10)
    check(cifar.holdout, 5000, 10)
    assert np.bincount(cifar.holdout.labels).tolist() == [500] * 10
    assert cifar.class_names[3] == "cat"
    pixels = np.concatenate([cifar.train.images, cifar.holdout.images]) / 255
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), (0.4914, 0.4822, 0.4465), atol=1e-4)


def test_an_npz_is_loaded(npz, arrays):
    colours = data.load(str(npz), SIZE)
    assert (colours.name, colours.class_names) == ("colours", ("red", "green", "blue"))
    np.testing.assert_array_equal(colours.train.images, arrays["x_train"])
    np.testing.assert_array_equal(colours.test.labels, arrays["y_test"])


def test_npz_of_grey_floats_with_a_column_of_labels(tmp_path, arrays):
    grey = {key: value[..., 0].astype(float) for key, value in arrays.items() if key[0] == "x"}
    columns = {key: value[:, None] for key, value in arrays.items() if key[0] == "y"}
    np.savez(tmp_path / "grey.npz", **grey, **columns)
    loaded = data.load(str(tmp_path / "grey.npz"), SIZE)
    assert loaded.class_names == ("0", "1", "2")
    for channel in range(3):
        np.testing.assert_array_equal(loaded.train.images[..., channel], arrays["x_train"][..., 0])


def test_folder_is_split_class_by_class(folder):
    photos = data.load(str(folder), SIZE)
    check(photos.train, 39, 3)
    check(photos.test, 9, 3)
    assert (photos.name, photos.class_names) == ("photos", ("blue", "green", "red"))
    assert np.bincount(photos.test.labels).tolist() == [3, 3, 3]
    colour_of_class = {0: 2, 1: 1, 2: 0}
    for split in (photos.train, photos.test):
        brightest = split.images.mean((1, 2)).argmax(axis=-1)
        assert brightest.tolist() == [colour_of_class[label] for label in split.labels]


def test_folder_with_train_and_test(folder, tmp_path):
    for part in ("train", "test"):
        for name in ("red", "green"):
            (tmp_path / "split" / part / name).mkdir(parents=True)
    for i, file in enumerate(sorted((folder / "red").iterdir())):
        file.rename(tmp_path / "split" / ("test" if i % 4 == 0 else "train") / "red" / file.name)
    for i, file in enumerate(sorted((folder / "green").iterdir())):
        file.rename(tmp_path / "split" / ("test" if i % 2 == 0 else "train") / "green" / file.name)
    photos = data.load(str(tmp_path / "split"), SIZE)
    assert np.bincount(photos.train.labels).tolist() == [8, 12]
    assert np.bincount(photos.test.labels).tolist() == [8, 4]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_seen_on_white(tmp_path, mode):
    path = tmp_path / "image.png"
    if mode == "P":
        image = Image.new("P", (8, 8), 1)  # colour 1, which is red, on the left half of colour 0
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.paste(0, (4, 0, 8, 8))
        image.save(path, transparency=0)
        solid = (255, 0, 0)
    else:
        image = Image.new(mode, (8, 8), (*(90,) * (len(mode) - 1), 255))
        image.paste((*(0,) * (len(mode) - 1), 0), (4, 0, 8, 8))
        image.save(path)
        solid = (90, 90, 90)
    read = data.read_image(path, (8, 8))
    np.testing.assert_array_equal(read[:, :4], np.broadcast_to(solid, (8, 4, 3)))
    np.testing.assert_array_equal(read[:, 4:], 255)


def test_a_sample_of_a_split_is_spread_evenly():
    images = np.arange(10).repeat(3).reshape(10, 1, 1, 3).astype(np.uint8)
    split = data.Split(images, np.arange(10))
    assert split.some(4)[1].tolist() == [0, 3, 6, 9]
    assert split.some(99)[1].tolist() == list(range(10))


def test_16_bits_are_scaled_to_8(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    read = data.read_image(tmp_path / "deep.png", SIZE)
    np.testing.assert_allclose(read[..., 0], ramp / 257, atol=0.51)


@pytest.mark.parametrize("spec", ["digits", "npz"])
def test_any_size_is_resized(spec, npz):
    split = data.load(str(npz) if spec == "npz" else spec, (20, 24)).train
    assert split.images.shape[1:] == (20, 24, 3)


def test_holdout_is_taken_class_by_class_from_train():
    whole = data.load("digits", SIZE)
    held = data.load("digits", SIZE, holdout=200, seed=1)
    check(held.train, 698, 10)
    check(held.holdout, 200, 10)
    expected = np.bincount(whole.train.labels) * 200 / 898
    assert np.all(np.abs(np.bincount(held.holdout.labels) - expected) < 1)
    np.testing.assert_array_equal(held.test.images, whole.test.images)
    together = np.concatenate([held.train.images, held.holdout.images]).reshape(898, -1)
    both = np.unique(together, axis=0), np.unique(whole.train.images.reshape(898, -1), axis=0)
    np.testing.assert_array_equal(*both)
    other = data.load("digits", SIZE, holdout=200, seed=2)
    assert not np.array_equal(other.holdout.images, held.holdout.images)


def test_batches_hold_every_image_once():
    split = data.Split(np.zeros((10, 1, 1, 3), np.uint8), np.arange(10, dtype=np.int32))
    plain = data.Batches(split, 4)
    assert [list(labels) for _, labels in plain] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    dropping = data.Batches(split, 4, seed=0, drop_remainder=True)
    assert [len(labels) for _, labels in dropping] == [4, 4]


def test_a_large_folder_stays_on_disk_and_is_the_same(folder, monkeypatch):
    loaded = data.load(str(folder), SIZE, holdout=6)
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    stored = data.load(str(folder), SIZE, holdout=6)
    for part in ("train", "test", "holdout"):
        one, other = getattr(loaded, part), getattr(stored, part)
        assert isinstance(other.images, data.OnDisk)
        pairs = zip(data.Batches(one, 5, seed=3), data.Batches(other, 5, seed=3), strict=True)
        for expected, batch in pairs:
            for a, b in zip(expected, batch, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_large_folder_takes_little_memory(folder):
    for path in list(folder.glob("*/*.png")):
        for i in range(25):
            path.with_name(f"{i}-{path.name}").hardlink_to(path)
    script = """
import sys, tracemalloc
from tinyconv import data
from tinyconv.data import store
store.IN_MEMORY = int(sys.argv[2])
tracemalloc.start()
train = data.load(sys.argv[1], (160, 160), holdout=24).train
batch, _ = data.Batches(train, 32, seed=0)[3]
print(len(train), batch.shape, tracemalloc.get_traced_memory()[1] // 2**20)
"""
    peaks = []
    for limit in (0, 2**40):
        printed, _ = run("-c", script, folder, limit)
        assert printed.startswith("990 (32, 160, 160, 3)")
        peaks.append(int(printed.split()[-1]))
    whole = 1248 * 160 * 160 * 3 / 2**20
    assert peaks[0] < whole / 2 < whole < peaks[1]


def test_a_full_temporary_disk_is_one_sentence(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "IN_MEMORY", 0)
    monkeypatch.setattr(store.tempfile, "TemporaryFile", lambda: SimpleNamespace(write=full))
    with pytest.raises(InputError, match=r"do not fit into .* set TMPDIR to a folder"):
        data.load(str(folder), SIZE)
