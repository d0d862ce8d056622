"""The images that an exported model is checked with, and those that calibrate its 8 bits."""

from dataclasses import dataclass

import numpy as np

from tinyconv import data
from tinyconv.data.ranges import Range
from tinyconv.exporters import CALIBRATION
from tinyconv.trained import Trained


@dataclass(frozen=True)
class Samples:
    """Images for `export`.

    Args:
        images: the images to compare the file with Keras, (N, height, width, 3) in uint8.
        labels: the classes of `images`, (N,), as the model numbers them; None if the model does not
            know these classes.
        calibration: `CALIBRATION` images for int8, or fewer. They are not among `images` unless the
            data have too few images.
        what: a description of `images`.
    """

    images: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray
    what: str


def choose(opened: Trained, spec: str | None, count: int, data_range: Range | None) -> Samples:
    """Choose the images to check an exported model with. They are those of `tinyconv evaluate`.

    Args:
        opened: the trained model.
        spec: as for `tinyconv.data.load`. All images of a source without splits are used, unless
            the model was trained on it. Default: the data that the model was trained on,
            or noise if they are not known or do not exist.
        count: the largest number of images.
        data_range: as for `tinyconv.data.load`.

    Raises:
        InputError: the data do not exist or cannot be read.
    """
    size, own = opened.model.input_shape[1:3], opened.data
    spec = spec or (own if own and data.is_here(own) else None)
    if spec is None:
        images = np.random.default_rng(0).integers(256, size=(count, *size, 3), dtype=np.uint8)
        what = "noise, as no --data is given and the model's own is not here"
        return Samples(images, None, images[:CALIBRATION], what)
    other = data.open_other(spec, own)
    if other and "train" not in other.splits:
        test, names, _ = data.load_test(
            spec, size, None, own, data_range, opened.crop, opened.folders
        )
        rest = test.others(count)
        train = rest if len(rest) >= CALIBRATION else test
        what = f"images of {other.name}"
    else:
        dataset = data.load(spec, size, data_range=data_range, crop=opened.crop)
        train, test, names = dataset.train, dataset.test, dataset.class_names
        what = f"{dataset.test_name} images of {dataset.name}"
    images, labels = test.some(count)
    calibration, _ = train.some(CALIBRATION)
    known = opened.class_names or names
    if len(known) != opened.model.output_shape[-1] or not set(names) <= set(known):
        return Samples(images, None, calibration, what)
    indices = np.array([known.index(name) for name in names], np.int32)
    return Samples(images, indices[labels], calibration, what)
