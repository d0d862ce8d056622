"""Where images come from, and the batches that `keras.Model.fit` takes.

Whatever the source, a `Dataset` holds raw RGB in uint8 at the size that the net wants, in memory
or, from a large folder, in a temporary file; `Batches` shuffles it and `feed` turns it into what
`fit` takes.
"""

from tinyconv.data.batches import AugmentedBatches, Batches, feed
from tinyconv.data.files import image_files
from tinyconv.data.images import read_image, text
from tinyconv.data.sources import SIZES, is_another_folder, is_here, load, load_test
from tinyconv.data.splits import Dataset, OnDisk, Split

__all__ = [
    "SIZES",
    "AugmentedBatches",
    "Batches",
    "Dataset",
    "OnDisk",
    "Split",
    "feed",
    "image_files",
    "is_another_folder",
    "is_here",
    "load",
    "load_test",
    "read_image",
    "text",
]
