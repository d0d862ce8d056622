"""Data sets, and the batches that `keras.Model.fit` takes.

A `Dataset` from any source holds raw RGB in uint8, resized to the input size of the net. The images
are in memory. Those of a large source are in a temporary file. `Batches` shuffles the images, and
`feed` makes the argument of `fit` from them.
"""

from tinyconv.data.batches import AugmentedBatches, Batches, feed
from tinyconv.data.files import image_files
from tinyconv.data.images import Crop, read_image, text
from tinyconv.data.sources import SIZES, is_here, is_name, load, load_test, open_other
from tinyconv.data.splits import Dataset, OnDisk, Split

__all__ = [
    "SIZES",
    "AugmentedBatches",
    "Batches",
    "Crop",
    "Dataset",
    "OnDisk",
    "Split",
    "feed",
    "image_files",
    "is_here",
    "is_name",
    "load",
    "load_test",
    "open_other",
    "read_image",
    "text",
]
