import numpy as np
import pytest

from tinyconv import data
from tinyconv.augment import Augmentation

GRADIENT = np.zeros((1, 32, 32, 3), np.uint8)
GRADIENT[..., 0] = 8 * np.arange(32)  # red tells the column
GRADIENT[..., 1] = 8 * np.arange(32)[:, None]  # green tells the row


def augmented(names, images, step=0, seed=0):
    out, labels = Augmentation(names, seed)(np.int32(step), images, np.arange(len(images)))
    assert list(np.array(labels)) == list(range(len(images)))
    return np.array(out)


@pytest.mark.parametrize("names", [("flip",), ("translate",), ("flip", "translate")])
def test_images_of_a_batch_and_steps_differ(names):
    images = np.repeat(GRADIENT, 64, axis=0)
    first = augmented(names, images)
    variants = len(np.unique(first.reshape(64, -1), axis=0))
    assert variants == 2 if names == ("flip",) else variants > 60
    assert np.any(augmented(names, images, step=1) != first)
    assert np.any(augmented(names, images, seed=1) != first)
    np.testing.assert_array_equal(augmented(names, images), first)


def test_flip_mirrors_half_of_the_images_from_left_to_right():
    out = augmented(("flip",), np.repeat(GRADIENT, 1000, axis=0))
    flipped = np.array([np.array_equal(image, GRADIENT[0, :, ::-1]) for image in out])
    kept = np.array([np.array_equal(image, GRADIENT[0]) for image in out])
    assert np.all(flipped | kept)
    assert 450 < flipped.sum() < 550


@pytest.mark.parametrize("channel", [0, 1])
def test_translate_moves_up_to_a_tenth_and_repeats_the_border(channel):
    out = augmented(("translate",), np.repeat(GRADIENT, 1000, axis=0))
    shifts = out[:, 16, 16, channel] / 8 - 16
    assert -3.2 <= shifts.min() < -3 and 3 < shifts.max() <= 3.2
    assert abs(shifts.mean()) < 0.2
    for image, shift in zip(out, shifts, strict=True):
        line = image[16, :, 0] if channel == 0 else image[:, 16, 1]
        expected = np.clip(8 * (np.arange(32) + shift), 0, 8 * 31)
        np.testing.assert_allclose(line, expected, atol=0.01)


def test_every_epoch_is_shuffled_and_augmented_anew_and_can_be_repeated():
    images = np.repeat(GRADIENT, 20, axis=0)
    split = data.Split(images, np.arange(20, dtype=np.int32))
    batches = data.Batches(split, 8, seed=5)
    feed = data.feed(batches, Augmentation(("translate",), 5))
    assert len(feed) == len(batches) == 3

    def epoch(number):
        batches.start_epoch(number)
        pairs = [(np.array(x), np.array(y)) for x, y in feed]
        return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])

    (x0, y0), (x1, y1), (again, labels) = epoch(0), epoch(1), epoch(0)
    assert sorted(y0) == sorted(y1) == list(range(20))
    assert list(y0) != list(y1)
    assert len(np.unique(np.concatenate([x0, x1]).reshape(40, -1), axis=0)) == 40
    np.testing.assert_array_equal(again, x0)
    np.testing.assert_array_equal(labels, y0)
