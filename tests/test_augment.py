import colorsys

import numpy as np
import pytest

from tinyconv import data
from tinyconv.augment import AUGMENTATIONS, GREY, Augmentation, RandomColor
from tinyconv.mixing import CutMix, Mixup

GRADIENT = np.zeros((1, 32, 32, 3), np.uint8)
GRADIENT[..., 0] = 8 * np.arange(32)  # red tells the column
GRADIENT[..., 1] = 8 * np.arange(32)[:, None]  # green tells the row


NOISE = np.random.default_rng(0).integers(20, 236, (1, 32, 32, 3), np.uint8)


def augmented(names, images, step=0, seed=0):
    out, labels = Augmentation(names, seed)(np.int32(step), images, np.arange(len(images)))
    assert list(np.array(labels)) == list(range(len(images)))
    return np.array(out)


@pytest.mark.parametrize("names", [*((name,) for name in AUGMENTATIONS), tuple(AUGMENTATIONS)])
def test_images_of_a_batch_and_steps_differ(names):
    images = np.repeat(NOISE, 64, axis=0)
    first = augmented(names, images)
    assert first.shape == images.shape and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 255
    variants = len(np.unique(first.reshape(64, -1), axis=0))
    fewer = {"flip": 2, "crop": 35, "shift": 35, "color": 50, "cutout": 50, "erase": 25}
    assert variants >= fewer.get(names[0] if len(names) == 1 else "", 55)
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


def touched(names, image=NOISE, count=1000):
    """The images that an augmentation changed, and which share of all they are."""
    out = augmented(names, np.repeat(image, count, axis=0))
    changed = np.abs(out - image).max((1, 2, 3)) > 0.01
    return out[changed], changed.mean()


@pytest.mark.parametrize(("name", "border"), [("shift", "edge"), ("crop", "constant")])
def test_shift_and_crop_move_whole_pixels_up_to_four(name, border):
    out = augmented((name,), np.repeat(NOISE, 1000, axis=0))
    padded = np.pad(NOISE[0], ((4, 4), (4, 4), (0, 0)), mode=border)
    places = {(y, x): padded[y : y + 32, x : x + 32] for y in range(9) for x in range(9)}
    seen = [next(k for k, v in places.items() if np.array_equal(v, image)) for image in out]
    assert set(seen) == set(places)
    assert max(seen.count(place) for place in places) < 40  # 12 expected


def test_rotate_turns_up_to_15_degrees_most_of_the_time_and_reflects_the_border():
    dot = np.zeros((1, 32, 32, 3), np.uint8)
    dot[0, 14:18, 26:30] = 255  # 12 pixels right of the centre
    turned, share = touched(("rotate",), dot)
    assert 0.92 < share < 0.975  # 0.95, less the turns too small to see
    rows, columns = np.mgrid[:32, :32] - 15.5
    weight = turned.mean(-1) * (np.hypot(rows, columns) < 15)
    y, x = ((weight * axis).sum((1, 2)) / weight.sum((1, 2)) for axis in (rows, columns))
    angles = np.degrees(np.arctan2(y, x))
    assert 14 < angles.max() < 15.3 and -15.3 < angles.min() < -14
    assert abs(angles.mean()) < 1
    bright, _ = touched(("rotate",), np.full((1, 32, 32, 3), 200, np.uint8))
    assert len(bright) == 0  # no dark corner comes in
    left_half = np.zeros((1, 32, 32, 3), np.uint8)
    left_half[:, :, :16] = 200
    corners = touched(("rotate",), left_half)[0]
    assert corners[:, [0, -1], 0].min() > 199.9 and corners[:, [0, -1], -1].max() < 0.1


def test_sharpen_goes_from_1_to_2_2_most_of_the_time_and_leaves_the_border():
    step = np.full((1, 32, 32, 3), 100, np.uint8)
    step[:, :, 16:] = 126
    sharp, share = touched(("sharpen",), step)
    assert 0.92 < share < 0.98
    blur = 126 - 3 * 26 / 13  # of a bright pixel beside the step
    factors = (sharp[:, 16, 16, 0] - blur) / (126 - blur)
    assert 1 < factors.min() < 1.1 and 2.15 < factors.max() < 2.2001
    assert abs(factors.mean() - 1.62) < 0.05
    np.testing.assert_array_equal(sharp[:, 0], np.repeat(step[:, 0], len(sharp), 0))
    np.testing.assert_array_equal(sharp[:, :, -1], np.repeat(step[:, :, -1], len(sharp), 0))
    np.testing.assert_allclose(sharp[:, 5, 5], 100, atol=1e-3)


def test_cutout_blackens_a_square_of_half_the_side():
    out = augmented(("cutout",), np.repeat(NOISE, 500, axis=0))
    black = np.all(out == 0, axis=-1)
    assert np.all(black.sum((1, 2)) == 256)
    for axis in (1, 2):
        lines = black.any(axis=3 - axis)
        assert np.all(lines.sum(-1) == 16) and set(lines.argmax(-1)) == set(range(1, 17))
    np.testing.assert_array_equal(out[~black], np.broadcast_to(NOISE, out.shape)[~black])


def test_erase_puts_noise_into_a_box_of_half_of_the_images():
    out, share = touched(("erase",), np.full((1, 32, 32, 3), 100, np.uint8))
    assert 0.45 < share < 0.55
    areas = np.any(out != 100, axis=-1).mean((1, 2))
    assert 0.01 < areas.min() < 0.04 and 0.25 < areas.max() < 0.36
    assert len(np.unique(out)) > 200


def test_randaugment_draws_two_operations_for_each_image():
    """Only some images of a batch get the two operations that have no strength."""
    out = augmented(("randaugment",), np.repeat(NOISE, 1000, axis=0))
    _, counts = np.unique(out.reshape(1000, -1), axis=0, return_counts=True)
    alike = counts[counts > 1].sum()
    assert 10 < alike < 100  # (2 / 11) ** 2 of them are 33, and some others are unchanged
    grey = augmented(("randaugment",), np.full((64, 32, 32, 3), 100, np.uint8))
    assert len(np.unique(grey.mean((1, 2, 3)).round())) > 10


def colored(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, image=NOISE):
    layer = RandomColor(brightness, contrast, saturation, hue)
    return np.array(layer(np.repeat(image, 500, axis=0).astype(np.float32)))


def test_color_changes_most_of_the_images():
    assert 0.87 < touched(("color",))[1] < 0.93


def test_brightness_multiplies():
    factors = colored(brightness=0.1).mean((1, 2, 3)) / NOISE.mean()
    assert 0.9 <= factors.min() < 0.91 and 1.09 < factors.max() <= 1.1


def test_contrast_spreads_about_the_mean_grey():
    out = colored(contrast=0.1)
    factors = out.std((1, 2, 3)) / NOISE.std()
    assert 0.9 <= factors.min() < 0.91 and 1.09 < factors.max() <= 1.1
    np.testing.assert_allclose((out @ GREY).mean((1, 2)), (NOISE @ GREY).mean(), rtol=1e-3)


def test_saturation_spreads_about_each_pixels_grey():
    pale = (100 + NOISE // 4).astype(np.uint8)
    out, grey = colored(saturation=0.5, image=pale), (pale @ GREY)[..., None]
    factors = (out - grey).std((1, 2, 3)) / (pale - grey).std()
    assert 0.5 <= factors.min() < 0.51 and 1.49 < factors.max() <= 1.501
    np.testing.assert_allclose(out @ GREY, np.repeat(grey[..., 0], 500, 0), atol=0.05)


def test_hue_turns_the_colour_wheel():
    red = np.zeros((1, 1, 1, 3), np.uint8)
    red[..., 0] = 200
    hues = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in colored(hue=0.05, image=red)[:, 0, 0]]
    turns = (np.array(hues) + 0.5) % 1 - 0.5
    assert -0.0501 < turns.min() < -0.045 and 0.045 < turns.max() < 0.0501
    np.testing.assert_allclose(
        colored(hue=0.05).max(-1), np.repeat(NOISE.max(-1), 500, 0), rtol=1e-4
    )


@pytest.mark.parametrize(("epoch", "largest_share"), [(0, 0.0), (2, 0.2), (5, 0.5), (9, 0.5)])
def test_mixup_grows_over_the_first_half(epoch, largest_share):
    images = np.zeros((1000, 2, 2, 3), np.uint8)
    images[::2] = 200
    labels = np.arange(1000) % 2
    augment = Augmentation((), 0, Mixup(0.5, classes=3, epochs=10), steps_per_epoch=7)
    mixed, soft = map(np.array, augment(np.int32(7 * epoch + 6), images, labels))
    assert soft.shape == (1000, 3)
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-6)
    shares = 1 - soft[np.arange(1000), labels]
    np.testing.assert_allclose(
        mixed[..., 0], 200 * soft[:, :1, None] * np.ones((1, 2, 2)), atol=1e-3
    )
    assert shares.max() <= largest_share + 1e-6
    assert shares.max() >= 0.97 * largest_share and abs(shares.mean() - largest_share / 2) < 0.03


@pytest.mark.parametrize("mixup", [None, Mixup(0.5, classes=3, epochs=1)])
def test_cutmix_gives_the_label_the_share_of_its_box(mixup):
    images = np.zeros((1000, 32, 32, 3), np.uint8)
    images[::2] = 200
    labels = np.arange(1000) % 2
    augment = Augmentation((), 0, mixup, 1, CutMix(0.6, classes=3))
    mixed, soft = map(np.array, augment(np.int32(1), images, labels))
    assert soft.shape == (1000, 3) and not soft[:, 2].any()
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)) / 200, soft[:, 0], atol=0.07)
    cut = np.array([len(np.unique(image)) == 2 for image in mixed])
    assert 0.2 < cut.mean() < 0.35  # half of the partners have the same colour
    shares = 1 - soft[np.arange(1000), labels][cut]
    assert shares.min() < 0.05 and shares.max() > 0.9 and 0.4 < shares.mean() < 0.6
    blended = (soft.max(-1) < 1) & ~cut
    assert 0.35 < blended.mean() < 0.45 if mixup else not blended.any()
    for step in (1, 2):
        again = np.array(augment(np.int32(step), images, labels)[0])
        assert np.array_equal(again, mixed) == (step == 1)


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
