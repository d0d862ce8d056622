"""`tinyconv explain` shows what an answer depends on; `evaluate --out` draws its answers."""

import keras
import numpy as np
import pytest
from conftest import command
from PIL import Image

from tinyconv import saliency


@pytest.fixture(scope="module")
def corner(tmp_path_factory):
    """A model that looks at the upper left quarter alone: class 1 if that quarter is bright."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Cropping2D(((0, 16), (0, 16)))(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head_dense")(x), name="corner")
    model.layers[-1].set_weights([np.array([[0, 4.0]] * 3), np.array([0, -11.0])])
    path = tmp_path_factory.mktemp("corner") / "corner.keras"
    model.save(path)
    return path


def picture(path, bright):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32] = 255 if bright else 0
    Image.fromarray(image).save(path)
    return path


def test_occlusion_finds_the_part_that_the_answer_depends_on(corner):
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16] = 255
    fall = saliency.occlusion(keras.saving.load_model(corner), image, 1)
    assert fall.shape == (32, 32)
    assert fall[:16, :16].mean() > 0.1
    assert fall[:16, :16].min() > np.abs(fall[24:, 24:]).max() == pytest.approx(0, abs=1e-6)


def test_hiding_what_speaks_against_a_class_raises_its_probability(corner):
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16] = 255
    assert saliency.occlusion(keras.saving.load_model(corner), image, 0).min() < -0.1


@pytest.mark.parametrize("side", [1, 3, 17, 160])
def test_every_pixel_is_hidden_equally_often(side):
    count = np.zeros(side)
    for start, length in saliency._starts(side):
        count[max(start, 0) : start + length] += 1
    assert count.min() == count.max() or side > 16
    assert count.min() > 0


def test_the_command_draws_a_row_for_each_image(corner, tmp_path):
    files = [picture(tmp_path / f"{i}.png", bright=i) for i in (0, 1)]
    out, _ = command("explain", corner, *files, "--out", tmp_path / "why.png")
    assert f"{files[1]}: 1 7" in out and "points where the image is hidden" in out
    height = Image.open(tmp_path / "why.png").height
    command("explain", corner, files[1], "--class", "0", "--out", tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").height == height // 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--class", "7"), "Unknown class '7': known: 0, 1."),
        (("--out", "why.jpg"), "--out is why.jpg; it must end in .png."),
        (("--out", "{there}"), "is there already"),
        (("{missing}",), "There is no file"),
        (("{many}",), "21 images are too many for a picture; give at most 20."),
    ],
)
def test_bad_arguments_get_a_sentence_and_write_nothing(corner, tmp_path, arguments, sentence):
    there = picture(tmp_path / "there.png", bright=1)
    many = tmp_path / "many"
    many.mkdir()
    for i in range(21 if "{many}" in arguments else 0):
        picture(many / f"{i}.png", bright=1)
    names = {"there": there, "missing": tmp_path / "missing.png", "many": many}
    before = sorted(tmp_path.rglob("*"))
    given = [argument.format(**names) for argument in arguments]
    given = given if "--out" in given else [*given, "--out", tmp_path / "new.png"]
    images = [] if arguments[0] == "{many}" else [there]
    _, said = command("explain", corner, *images, *given, status=2)
    assert sentence in said
    assert sorted(tmp_path.rglob("*")) == before


def test_evaluate_draws_its_answers_into_a_new_folder(small, npz, tmp_path):
    _, said = command("evaluate", small, "--data", npz, "--out", tmp_path / "pictures")
    found = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert found == ["confusion.png", "mistakes.png", "reliability.png"]
    _, said = command("evaluate", small, "--data", npz, "--out", tmp_path / "pictures", status=2)
    assert "confusion.png is there already" in said
