"""How an image file is read."""

import math
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinyconv.data.splits import OnDisk
from tinyconv.errors import InputError

MAX_PIXELS = 50_000_000


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One image file of any common format as (height, width, 3) in uint8, raw RGB.

    What is transparent is seen on white.

    Raises:
        InputError: it is no image, is damaged, or has more than 50 million pixels.
    """
    try:
        with Image.open(path) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise InputError(
                    f"{path} has {math.prod(image.size):,} pixels; at most {MAX_PIXELS:,} are read."
                )
            upright = ImageOps.exif_transpose(image)
            if upright.mode[0] in "IF":  # beyond 8 bits Pillow would cut off, not scale
                if upright.mode == "F" or (upright.mode == "I" and image.format != "PNG"):
                    raise InputError(f"{path} has 32 bits a pixel; save it with 8 or 16.")
                levels = np.asarray(upright, np.float32) / 257
                upright = Image.fromarray(np.rint(levels).astype(np.uint8))
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright)
            return _resize_one(upright.convert("RGB"), size)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:  # what a damaged image raises is anyone's guess
        raise InputError(f"{path} cannot be read as an image; replace or remove it.") from error


def _resize_one(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def resize(images: np.ndarray | OnDisk, size: tuple[int, int]) -> np.ndarray | OnDisk:
    if isinstance(images, OnDisk) or images.shape[1:3] == size:
        return images
    return np.stack([_resize_one(Image.fromarray(image), size) for image in images])


def text(name: str | Path) -> str:
    """A file's name as text that can be written: it may be of bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
