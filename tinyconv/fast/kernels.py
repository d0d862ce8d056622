"""Functions that several blocks use, compiled by Numba: mathematics, layer norm and dropout.

Arrays are in float32 and in C order. Rows are (pixels, channels).
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

F = np.float32
U = np.uint32
OPTIONS: dict[str, Any] = {
    "fastmath": True,
    "nogil": True,
    "error_model": "numpy",
    "forceinline": True,
}
inlined = njit(inline="always", **OPTIONS)
SOURCES = (Path(__file__).with_name(name).read_bytes() for name in ("kernels.py", "tiles.py"))
SHARED = f"_{zlib.crc32(b''.join(SOURCES)):08x}"


def compiled(function):
    """Compile a function on its first call, with a cache on disk if a folder is writable.

    Numba compiles a cached function again when the file of the function changes. A function also
    depends on `kernels.py` and `tiles.py`. Their checksum is therefore a part of its name. Calls
    between compiled functions are inlined. Otherwise, a newly compiled function could call a cached
    function that rounds differently.
    """
    function.__qualname__ += SHARED
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # neither the package nor the home folder is writable
        return njit(**OPTIONS)(function)


PIXELS = 256  # per matrix product: the factors fit into the cache, and the product is fast


@intrinsic
def _float_of_bits(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@inlined
def clip(x, low, high):
    x = x if x > low else low
    return x if x < high else high


@inlined
def exp(x, highest):
    """exp(x) within a relative 4e-6. x is clipped to -80..`highest`, which is at most 80."""
    turns = clip(x, F(-80), highest) * F(1.4426950408889634)  # the exponent to base 2
    whole = np.floor(turns + F(0.5))
    r = (turns - whole) * F(0.6931471805599453)
    y = F(1 / 720)
    for inverse in (F(1 / 120), F(1 / 24), F(1 / 6), F(1 / 2), F(1), F(1)):
        y = y * r + inverse
    return y * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@inlined
def erf(x):
    """The error function within 5e-7, by Eigen's (MPL-2.0) rational function."""
    x = clip(x, F(-4), F(4))
    s = x * x
    p = F(-2.72614225801306e-10)
    for c in (
        F(2.77068142495902e-08),
        F(-2.10102402082508e-06),
        F(-5.69250639462346e-05),
        F(-7.34990630326855e-04),
        F(-2.95459980854025e-03),
        F(-1.60960333262415e-02),
    ):
        p = p * s + c
    q = F(-1.45660718464996e-05)
    for c in (
        F(-2.13374055278905e-04),
        F(-1.68282697438203e-03),
        F(-7.37332916720468e-03),
        F(-1.42647390514189e-02),
    ):
        q = q * s + c
    return x * p / q


@inlined
def tanh(x):
    """tanh(x) within a relative 4e-7 for x in -7.9..7.9, by Eigen's (MPL-2.0) rational function."""
    s = x * x
    p = F(-2.76076847742355e-16)
    for c in (
        F(2.00018790482477e-13),
        F(-8.60467152213735e-11),
        F(5.12229709037114e-08),
        F(1.48572235717979e-05),
        F(6.37261928875436e-04),
        F(4.89352455891786e-03),
    ):
        p = p * s + c
    q = F(1.19825839466702e-06)
    for c in (F(1.18534705686654e-04), F(2.26843463243900e-03), F(4.89352518554385e-03)):
        q = q * s + c
    return x * p / q


@inlined
def mix(h):
    """The hash lowbias32 of 32 bits. Source: https://nullprogram.com/blog/2018/07/31/."""
    h = U((h ^ (h >> U(16))) * U(0x7FEB352D))  # Numba promotes a product to 64 bits
    h = U((h ^ (h >> U(15))) * U(0x846CA68B))
    return U(h ^ (h >> U(16)))


@compiled
def draw(keep, seed):
    """Fill `keep` with 0 or 1 at equal probability. A number is one bit of a hash."""
    for i in range(keep.shape[0]):
        h = U(U(seed + U(i)) * U(0x9E3779B1))
        h = U((h ^ (h >> U(15))) * U(0x85EBCA6B))
        keep[i] = F(h >> U(31))


@compiled
def place(image, padded, border):
    """Copy an image (H, W, C) into `padded`, inside a border of `border` pixels."""
    for h in range(image.shape[0]):
        row = image[h].reshape(-1)
        target = padded[h + border].reshape(-1)[border * image.shape[2] :]
        for c in range(row.shape[0]):
            target[c] = row[c]


@compiled
def normalize(rows, inverse, epsilon):
    """Normalize `rows` in place, without gamma and beta.

    `inverse` becomes 1 / standard deviation of each row.
    """
    width = rows.shape[1]
    for p in range(rows.shape[0]):
        total = F(0)
        for c in range(width):
            total += rows[p, c]
        mean = total / F(width)
        total = F(0)
        for c in range(width):
            difference = rows[p, c] - mean
            total += difference * difference
        scale = F(1) / np.sqrt(total / F(width) + epsilon)
        inverse[p] = scale
        for c in range(width):
            rows[p, c] = (rows[p, c] - mean) * scale


@inlined
def normalize_gradient(row, normal, inverse):
    """Replace the gradient of a normalized row by the gradient of the row before `normalize`."""
    width = row.shape[0]
    first, second = F(0), F(0)
    for c in range(width):
        first += row[c]
        second += row[c] * normal[c]
    first /= F(width)
    second /= F(width)
    for c in range(width):
        row[c] = (row[c] - first - normal[c] * second) * inverse
