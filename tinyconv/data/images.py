"""Reading and resizing of image files."""

import io
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from tinyconv.data.splits import OnDisk
from tinyconv.errors import InputError

MAX_PIXELS = 50_000_000
DEEP = 2**16 - 1
# The numbers of four TIFF tags, and a value of SAMPLE_FORMAT.
PHOTOMETRIC, MAX_SAMPLE_VALUE, SAMPLE_FORMAT, SMAX_SAMPLE_VALUE = 262, 281, 339, 341
SIGNED = 2
WHITES = [2**bits - 1 for bits in range(9, 17)]  # other maxima describe one image, not the format
FORMATS = {  # Pillow's modes of more than 8 bits -> the formats with unsigned 16-bit values
    "I": ("PNG", "PPM"),
    "I;16": ("PNG", "TIFF", "JPEG2000"),
    "I;16B": ("TIFF",),
}


@dataclass(frozen=True)
class Crop:
    """The preparation of images that some published weights expect.

    The shorter side of an image is resized to the input size divided by `share`, and the middle of
    the image is cut out.

    Args:
        share: the share of the shorter side that is kept.
        interpolation: "bicubic" or "bilinear".
    """

    share: float
    interpolation: str

    def shorter(self, size: tuple[int, int]) -> int:
        """The pixels of the shorter side before the middle, (height, width) `size`, is cut out."""
        return int(min(size) / self.share)


@dataclass(frozen=True)
class Encoded:
    """An image file in memory. `str` gives its name, for messages."""

    content: bytes
    name: str

    def open(self, mode: str) -> io.BytesIO:
        """Open the content, as `Path.open` does in the mode "rb"."""
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


def read_image(path: Path | Encoded, size: tuple[int, int], crop: Crop | None = None) -> np.ndarray:
    """Read an image file of any common format.

    Transparent pixels are blended with white. If a file has several images, the first is read.
    Colour profiles are not applied.

    Args:
        path: the file, on disk or in memory.
        size: (height, width) in pixels that the image is resized to.
        crop: how to resize. Default: the whole image, whose proportions may change.

    Returns:
        Raw RGB (height, width, 3) in uint8.

    Raises:
        InputError: the file is not an image, is damaged, has more than 50 million pixels, or has
            pixel values without a clear meaning.
    """
    try:
        # Pillow 13 rotates an uncompressed TIFF wrongly if it opens the path itself.
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
            return _resize_one(upright.convert("RGB"), size, crop)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:  # a damaged image raises errors of many types
        raise InputError(f"{path} cannot be read as an image; replace or remove it.") from error


def _in_8_bits(image: ImageFile.ImageFile, path: Path | Encoded) -> Image.Image:
    """Convert an image that was just opened: upright, and with 8 bits per channel.

    Pillow's own conversion clips grey values of more than 8 bits. Pillow reads 16-bit colours as
    their upper 8 bits.
    """
    raw = str(image.tile)  # how Pillow decodes the pixels; Pillow empties it when it loads them
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
    """The value of white in a grey image of more than 8 bits; None if the file does not say it."""
    if image.format == "PPM":  # Pillow has already scaled the values
        return DEEP
    if "I;12" in raw:
        return 2**12 - 1
    stated = np.ravel(tags.get(SMAX_SAMPLE_VALUE, tags.get(MAX_SAMPLE_VALUE, 0)))[:1]
    return next((white for white in WHITES if white in stated), None)


def _check_levels(highest: int, white: int | None, path: Path | Encoded) -> None:
    if white is not None and highest > white:
        raise InputError(f"{path} has the value {highest}, but says that {white} is white.")
    if white is None and 0 < highest < 2**12:
        raise InputError(
            f"{path} has 16 bits a value, but none above {2**12 - 1}; scale it to "
            f"0..{DEEP}, or save it with 8 bits."
        )


def _resize_one(image: Image.Image, size: tuple[int, int], crop: Crop | None = None) -> np.ndarray:
    height, width = size
    if crop is None:
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    shorter, target = min(image.size), crop.shorter(size)
    across, down = (side * target // shorter for side in image.size)
    resized = image.resize((across, down), Image.Resampling[crop.interpolation.upper()])
    left, top = round((across - width) / 2), round((down - height) / 2)
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def resize(
    images: np.ndarray | OnDisk, size: tuple[int, int], crop: Crop | None = None
) -> np.ndarray | OnDisk:
    """Resize images (N, H, W, 3) to (height, width). Images on disk already have that size.

    Images of that size are not changed, and thus not cropped.
    """
    if isinstance(images, OnDisk) or images.shape[1:3] == size:
        return images
    return np.stack([_resize_one(Image.fromarray(image), size, crop) for image in images])


def text(name: str | Path) -> str:
    """A file name as valid UTF-8, with a replacement character for each undecodable byte."""
    return os.fsencode(name).decode("utf-8", "replace")
