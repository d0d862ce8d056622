"""How an image file is read."""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from tinyconv.data.splits import OnDisk
from tinyconv.errors import InputError

MAX_PIXELS = 50_000_000
DEEP = 2**16 - 1
# Tags of a TIFF, and a value of one.
PHOTOMETRIC, MAX_SAMPLE_VALUE, SAMPLE_FORMAT, SMAX_SAMPLE_VALUE = 262, 281, 339, 341
SIGNED = 2
WHITES = [2**bits - 1 for bits in range(9, 17)]  # any other largest value is of the one image
FORMATS = {  # of Pillow's modes of more than 8 bits: whose values are unsigned and of 16 bits
    "I": ("PNG", "PPM"),
    "I;16": ("PNG", "TIFF", "JPEG2000"),
    "I;16B": ("TIFF",),
}


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One image file of any common format as (height, width, 3) in uint8, raw RGB.

    What is transparent is seen on white. Of several images in a file the first is read. Colour
    profiles are not applied.

    Raises:
        InputError: it is no image, is damaged, has more than 50 million pixels, or may mean more
            than one picture.
    """
    try:
        # Given the path, Pillow 13 maps an uncompressed TIFF and turns a sideways one wrong.
        with path.open("rb") as file, Image.open(file) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise InputError(
                    f"{path} has {math.prod(image.size):,} pixels; at most {MAX_PIXELS:,} are read."
                )
            upright = _in_8_bits(image, path)
            if upright.mode in ("La", "RGBa"):
                upright = upright.convert(upright.mode.upper())
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


def _in_8_bits(image: ImageFile.ImageFile, path: Path) -> Image.Image:
    """An image that was just opened, upright and with 8 bits a channel.

    Pillow cuts grey values of more bits off, and gives colours the upper 8 of their 16 bits.
    """
    raw = str(image.tile)  # how Pillow decodes the pixels; empty once they are loaded
    tags = getattr(image, "tag_v2", {})
    key = image.info.get("transparency")
    upright = ImageOps.exif_transpose(image)
    deep = upright.mode[0] in "IF"
    if deep and image.format not in FORMATS.get(upright.mode, ()):
        raise InputError(
            f"{path} has 32 bits a pixel or signed values; save it with 8 or 16 bits, unsigned."
        )
    if SIGNED in np.ravel(tags.get(SAMPLE_FORMAT, 1)):
        raise InputError(f"{path} has signed values; save it with 8 or 16 bits, unsigned.")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        raise InputError(
            f"{path} is a CMYK JPEG that does not say if its inks are inverted; save it as RGB."
        )
    if deep:
        white = _white_level(image, raw, tags)
        levels = np.asarray(upright, np.float32)
        _check_levels(int(levels.max()), white, path)
        scaled = np.rint(levels * (255 / (white or DEEP)))
        if tags.get(PHOTOMETRIC) == 0:  # the smallest value is white
            scaled = 255 - scaled
        if key is not None:
            scaled[levels == key] = 255
        return Image.fromarray(scaled.astype(np.uint8))
    if image.format in ("PNG", "TIFF") and ";16" in raw:
        bands = upright.getbands()
        extrema = zip(bands, np.reshape(upright.getextrema(), (-1, 2)), strict=True)
        highest = max(int(high) for band, (_, high) in extrema if band != "A")
        _check_levels(257 * highest or 1, None, path)
        if key is not None:
            raise InputError(
                f"{path} names a transparent colour of 16 bits; save it with an alpha channel."
            )
    if image.format == "PNG" and key is not None and (bits := re.search(r"'L;([24])'", raw)):
        upright.info["transparency"] = key * 255 // (2 ** int(bits[1]) - 1)
    return upright


def _white_level(image: ImageFile.ImageFile, raw: str, tags: Any) -> int | None:
    """The value of white in a grey image of more than 8 bits, if the file says what it is."""
    if image.format == "PPM":  # Pillow has scaled it already
        return DEEP
    if "I;12" in raw:
        return 2**12 - 1
    stated = np.ravel(tags.get(SMAX_SAMPLE_VALUE, tags.get(MAX_SAMPLE_VALUE, 0)))[:1]
    return next((white for white in WHITES if white in stated), None)


def _check_levels(highest: int, white: int | None, path: Path) -> None:
    if white is not None and highest > white:
        raise InputError(f"{path} has the value {highest}, but says that {white} is white.")
    if white is None and 0 < highest < 2**12:
        raise InputError(
            f"{path} has 16 bits a value, but none above {2**12 - 1}; scale it to "
            f"0..{DEEP}, or save it with 8 bits."
        )


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
