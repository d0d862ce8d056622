"""The values of black and white in an array of images, and scaling to uint8."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.errors import InputError

BYTES = (0.0, 255.0)
DARK = 64  # data whose largest value is smaller are probably not in 0..255
UNLIKE = 8  # the largest allowed ratio of the ranges of x_train and x_test
SLACK = 0.05  # share of a stated range by which values may lie outside; they are clipped
LEAST = 1 / 8  # share of a stated range that the values must cover
CHUNK = 64  # images that are scaled at a time
COMMON = [(0, 1), (-0.5, 0.5), (-1, 1), (0, 15), (0, 16), (0, 31), (0, 63), (0, 100), (0, 255)]
COMMON += [(-128, 127), (0, 1023), (0, 4095), (0, 16383), (0, 65535)]

Range = tuple[float, float]


def check_range(given: Any) -> Range:
    """Convert the values of black and white to two floats.

    Raises:
        InputError: `given` is not two finite numbers, or black is not below white.
    """
    try:
        low, high = map(float, given)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The data range is {given!r}; it must be two numbers, the values of black and white."
        ) from error
    if not (low < high and math.isfinite(high - low)):
        raise InputError(
            f"--data-range is {low:g} {high:g}; it must be the value of black, then that of white, "
            "which is larger."
        )
    return low, high


def to_bytes(
    images: dict[str, np.ndarray], path: Path, stated: Range | None
) -> tuple[list[np.ndarray], list[str]]:
    """Scale arrays of images to uint8.

    Args:
        images: x_train and x_test by name, of any shape.
        path: the file of the arrays, for messages.
        stated: the values of black and white, if the user gave them. Default: 0 and 255.

    Returns:
        The arrays in uint8, and a line for each assumption.

    Raises:
        InputError: the values do not fit the range, or the arrays have different ranges.
    """
    for name, array in images.items():
        if array.dtype.kind not in "buif":
            raise InputError(
                f"{name} in {path} is of type {array.dtype}; images are numbers in 0..255."
            )
    types = [array.dtype for array in images.values()]
    masks = [dtype.kind == "b" for dtype in types]
    if any(masks) and not all(masks):
        raise InputError(
            f"The images in {path} are of types {types[0]} and {types[1]}; x_train and x_test must "
            "both be bool, or both be numbers."
        )
    ranges = {name: _range_of(array) for name, array in images.items()}
    parts = [f"{name} runs from {low:.6g} to {high:.6g}" for name, (low, high) in ranges.items()]
    found = f"In {path} {' and '.join(parts)}"
    if not all(math.isfinite(value) for pair in ranges.values() for value in pair):
        raise InputError(f"{found}; every value must be a finite number.")
    if _unlike(*ranges.values()):
        raise InputError(f"{found}; scale them alike, as both must have the same range.")
    notes: list[str] = []
    if all(masks):
        if stated not in (None, (0, 1)):
            raise InputError(f"The images in {path} are bool; they need no --data-range.")
        stated = (0, 1)
        notes.append("x_train and x_test are bool; False is read as black, True as white")
    if stated:
        _check_stated(ranges, stated, found)
    else:
        _check_bytes(ranges, found)
        notes += [
            f"{name} runs from {low:.6g} to {high:.6g}; it is read as dark images in 0 to 255 "
            "(give --data-range if that is wrong)"
            for name, (low, high) in ranges.items()
            if high < 2 * DARK
        ]
    if any(low == high for low, high in ranges.values()):
        raise InputError(f"{found}; images of a single value show nothing.")
    return [_scale(array, *(stated or BYTES)) for array in images.values()], notes


def _range_of(array: np.ndarray) -> Range:
    return float(array.min()), float(array.max())


def _unlike(one: Range, other: Range) -> bool:
    sizes = [max(map(abs, pair)) for pair in (one, other)]
    signed = [low < -SLACK * size for (low, _), size in zip((one, other), sizes, strict=True)]
    return max(sizes) > UNLIKE * min(sizes) or signed[0] != signed[1]


def _check_stated(ranges: dict[str, Range], stated: Range, found: str) -> None:
    black, white = stated
    flag, span = f"--data-range {black:g} {white:g}", white - black
    for name, (low, high) in ranges.items():
        if low < black - SLACK * span or high > white + SLACK * span:
            raise InputError(
                f"{found}, which is not {flag}: at most {SLACK:.0%} of the range is clipped at "
                "either end."
            )
        if high - black < LEAST * span or (black < 0 <= low):
            raise InputError(
                f"{found}, which is not {flag}: {name} uses too small a part of that range."
            )


def _check_bytes(ranges: dict[str, Range], found: str) -> None:
    low, high = (
        pick(values)
        for pick, values in zip((min, max), zip(*ranges.values(), strict=True), strict=True)
    )
    if low >= 0 and DARK <= high <= 255:
        return
    likely = _likely(low, high)
    if likely == BYTES:
        advice = "--data-range 0 255 clips what is outside"
    elif likely:
        black, white = likely
        advice = f"give --data-range {black:g} {white:g} if {black:g} is black and {white:g} white"
        if 255 * LEAST <= high < DARK and low >= 0:
            advice += ", or --data-range 0 255 if the images are that dark"
    elif low < 0:
        advice = (
            "they look standardized: undo that (multiply by the standard deviation, add the mean), "
            "or give --data-range LOW HIGH, the values of black and white"
        )
    else:
        advice = "give --data-range LOW HIGH, the values of black and white"
    raise InputError(f"{found}, but images are numbers in 0..255: {advice}.")


def _likely(low: float, high: float) -> Range | None:
    """The first range in `COMMON` that fits the values, or None."""
    for black, white in COMMON:
        slack = SLACK * (white - black)
        inside = black - slack <= low and high <= white + slack
        if inside and (white == 1 or max(-low, high) >= white / 2):
            return black, white
    return None


def _scale(array: np.ndarray, black: float, white: float) -> np.ndarray:
    """Scale `array` to uint8: `black` becomes 0, and `white` becomes 255."""
    if array.dtype == np.uint8 and (black, white) == BYTES:
        return array
    scaled = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), CHUNK):
        part = (array[start : start + CHUNK].astype(np.float64) - black) * (255 / (white - black))
        scaled[start : start + CHUNK] = np.rint(part).clip(0, 255)
    return scaled
