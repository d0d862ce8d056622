"""Every kind of image file: a ramp from black at the left to white at the right, or a refusal."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyconv import data
from tinyconv.errors import InputError

WIDTH, HEIGHT = 64, 8
RAMP = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
DEEP = RAMP.astype(np.uint16) * 257
TWELVE = (RAMP.astype(int) * 4095 // 255).astype(np.uint16)
FOUR = RAMP // 17 * 17  # what 4 bits can hold
FULL, NONE = np.full_like(RAMP, 255), np.zeros_like(RAMP)
NOT_AN_IMAGE = "cannot be read as an image; replace or remove it."
TOO_DARK = "has 16 bits a value, but none above 4095; scale it to 0..65535, or save it with 8 bits."
SIGNED = "signed values; save it with 8 or 16 bits, unsigned."


def saved(mode, kind, **options):
    """The ramp in a mode and format of Pillow's."""
    if mode == "LAB":
        image = Image.fromarray(np.stack([RAMP, NONE, NONE], -1), "LAB")
    elif mode == "I;16":
        image = Image.fromarray(DEEP)
    else:
        image = Image.fromarray(RAMP)
        image = (image.convert("RGB") if mode == "CMYK" else image).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind, **options):
    buffer = io.BytesIO()
    first, second = Image.fromarray(RAMP), Image.fromarray(255 - RAMP)
    first.save(buffer, kind, save_all=True, append_images=[second], **options)
    return buffer.getvalue()


def pnm(magic, largest, values):
    return f"{magic} {WIDTH} {HEIGHT} {largest}\n".encode() + values.astype(">u2").tobytes()


def tiff(values, bits=(16,), photometric=1, order="<", **tags):
    """An uncompressed TIFF; `tags` are by their names here."""
    numbers = {"orientation": 274, "max_sample": 281, "extra": 338, "format": 339, "smax": 341}
    kind = {8: "u1", 16: f"{order}u2", 32: f"{order}u4"}.get(bits[0], "u1")
    content = values if isinstance(values, bytes) else values.astype(kind).tobytes()
    content += bytes(len(content) % 2)
    entries = {256: WIDTH, 257: HEIGHT, 258: bits[0], 259: 1, 262: photometric, 273: 8}
    entries |= {277: len(bits), 278: HEIGHT, 279: len(content)}
    entries |= {numbers[name]: value for name, value in tags.items()}
    every_bits = struct.pack(f"{order}{len(bits)}H", *bits)
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        field = struct.pack(f"{order}H", value).ljust(4, b"\0")
        if tag == 279:
            directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
            continue
        if tag == 258 and len(bits) > 2:
            field = struct.pack(f"{order}I", 8 + len(content))
        elif tag == 258:
            field = every_bits.ljust(4, b"\0")
        count = len(bits) if tag == 258 else 1
        directory += struct.pack(f"{order}HHI", tag, 3, count) + field
    start = struct.pack(
        f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(content) + len(every_bits)
    )
    return start + content + every_bits + directory + bytes(4)


def twelve_bits(values):
    """Two values of 12 bits in three bytes."""
    a, b = values.reshape(-1, 2).T
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()


def nibbles(values):
    return (values.reshape(-1, 2) // 17 @ [16, 1]).astype(np.uint8).tobytes()


def png(values, depth, kind, key=None):
    """A PNG of rows of bytes, and perhaps of a transparent colour."""

    def chunk(name, content):
        ends = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(name + content))
        return ends[0] + name + content + ends[1]

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + transparent
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def bands(*values):
    return np.stack(values, -1)


def without_adobe(jpeg):
    """A JPEG without the segment APP14, which says how inks are stored."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


RIGHT = {  # content, and by how much a value may be off
    **{f"{kind} L": (saved("L", kind), 0) for kind in ("PNG", "BMP", "GIF", "TIFF", "PPM")},
    **{f"{kind} RGB": (saved("RGB", kind), 0) for kind in ("PNG", "BMP", "TIFF", "PPM")},
    **{f"{kind} P": (saved("P", kind), 0) for kind in ("PNG", "BMP", "GIF", "TIFF")},
    **{
        f"{kind} {mode}": (saved(mode, kind), 0)
        for kind in ("PNG", "TIFF")
        for mode in ("LA", "RGBA")
    },
    **{f"JPEG {mode}": (saved(mode, "JPEG", quality=95), 6) for mode in ("L", "RGB", "CMYK")},
    "WEBP": (saved("RGB", "WEBP", lossless=True), 0),
    "JPEG 2000": (saved("L", "JPEG2000"), 0),
    "JPEG 2000, 16 bits": (saved("I;16", "JPEG2000"), 0),
    "TIFF CMYK": (saved("CMYK", "TIFF"), 0),
    "TIFF YCbCr": (saved("YCbCr", "TIFF"), 1),
    "TIFF LAB": (saved("LAB", "TIFF"), 12),  # its lightness is not quite linear in sRGB
    "TIFF La": (tiff(bands(RAMP, FULL), (8, 8), extra=1), 0),
    "TIFF RGBa": (tiff(bands(RAMP, RAMP, RAMP, FULL), (8,) * 4, 2, extra=1), 0),
    "TIFF LX": (tiff(bands(RAMP, NONE), (8, 8), extra=0), 0),
    "TIFF RGBX": (tiff(bands(RAMP, RAMP, RAMP, NONE), (8,) * 4, 2, extra=0), 0),
    "TIFF deflated, 16 bits": (saved("I;16", "TIFF", compression="tiff_adobe_deflate"), 0),
    "GIF, animated": (frames("GIF"), 0),
    "PNG, animated": (frames("PNG"), 0),
    "TIFF of two pages": (frames("TIFF"), 0),
    "PNG, 16 bits": (saved("I;16", "PNG"), 0),
    "PNG, 16 bits RGB": (png(bands(DEEP, DEEP, DEEP).astype(">u2"), 16, 2), 1),
    "PNG, 16 bits LA": (png(bands(DEEP, DEEP * 0 + 65535).astype(">u2"), 16, 4), 1),
    "PNG, 16 bits RGBA": (png(bands(DEEP, DEEP, DEEP, DEEP * 0 + 65535).astype(">u2"), 16, 6), 1),
    "PGM, 16 bits": (pnm("P5", 65535, DEEP), 0),
    "PGM, 12 bits": (pnm("P5", 4095, TWELVE), 0),
    "PGM in letters": (
        f"P2 {WIDTH} {HEIGHT} 4095\n{' '.join(map(str, TWELVE.ravel()))}".encode(),
        0,
    ),
    "PPM, 16 bits": (pnm("P6", 65535, bands(DEEP, DEEP, DEEP)), 1),
    "PPM, 12 bits": (pnm("P6", 4095, bands(TWELVE, TWELVE, TWELVE)), 1),
    "TIFF, 16 bits": (tiff(DEEP), 0),
    "TIFF, 16 bits, big-endian": (tiff(DEEP, order=">"), 0),
    "TIFF, 16 bits RGB": (tiff(bands(DEEP, DEEP, DEEP), (16,) * 3, 2), 1),
    "TIFF, 16 bits CMYK": (tiff(bands(*[DEEP * 0] * 3, 65535 - DEEP), (16,) * 4, 5), 1),
    "TIFF, 12 bits": (tiff(twelve_bits(TWELVE), (12,)), 0),
    "TIFF, 12 of 16 bits by MaxSampleValue": (tiff(TWELVE, max_sample=4095), 0),
    "TIFF, 12 of 16 bits by SMaxSampleValue": (tiff(TWELVE, smax=4095), 0),
    "TIFF, 16 bits, of a largest value of its own": (tiff(DEEP, max_sample=65000), 0),
    "TIFF, white is 0": (tiff(255 - RAMP, (8,), 0), 0),
    "TIFF, white is 0, 4 bits": (tiff(nibbles(255 - FOUR), (4,), 0), 17),
    "TIFF, white is 0, 16 bits": (tiff(65535 - DEEP, photometric=0), 0),
    "TIFF, white is 0, 12 of 16 bits": (tiff(4095 - TWELVE, photometric=0, smax=4095), 0),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_ramp_is_read_from_black_to_white(case, tmp_path):
    content, off = RIGHT[case]
    (tmp_path / "ramp").write_bytes(content)
    read = data.read_image(tmp_path / "ramp", (HEIGHT, WIDTH)).astype(int)
    assert read.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(read - RAMP[..., None]).max() <= off


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RAMP > 127).save(buffer, kind)
    contents = [buffer.getvalue(), tiff(np.packbits(RAMP < 128, axis=1), (1,), 0)]
    for content in contents:
        (tmp_path / "x").write_bytes(content)
        read = data.read_image(tmp_path / "x", (HEIGHT, WIDTH))
        np.testing.assert_array_equal(read, np.repeat((RAMP > 127)[..., None] * 255, 3, -1))


REFUSED = {
    "12 of 16 bits": (tiff(TWELVE), TOO_DARK),
    "12 of 16 bits, white is 0": (tiff(4095 - TWELVE, photometric=0), TOO_DARK),
    "12 of 16 bits in a PNG": (png(TWELVE.astype(">u2"), 16, 0), TOO_DARK),
    "12 of 16 bits RGB": (tiff(bands(TWELVE, TWELVE, TWELVE), (16,) * 3, 2), TOO_DARK),
    "8 of 16 bits RGB": (png(bands(RAMP, RAMP, RAMP).astype(">u2"), 16, 2), TOO_DARK),
    "8 of 16 bits LA": (png(bands(RAMP, DEEP * 0 + 65535).astype(">u2"), 16, 4), TOO_DARK),
    "more than its white": (tiff(DEEP, smax=4095), "value 65535, but says that 4095 is white."),
    "signed, 8 bits": (tiff(RAMP, (8,), format=2), SIGNED),
    "signed, 16 bits": (tiff(DEEP, format=2), SIGNED),
    "32 bits": (tiff(DEEP, (32,)), SIGNED),
    "floats": (tiff(DEEP, (32,), format=3), SIGNED),
    "a CMYK JPEG without a marker": (
        without_adobe(saved("CMYK", "JPEG")),
        "does not say if its inks are inverted; save it as RGB.",
    ),
    "a transparent colour of 16 bits": (
        png(bands(DEEP, DEEP, DEEP).astype(">u2"), 16, 2, (0, 0, 0)),
        "names a transparent colour of 16 bits; save it with an alpha channel.",
    ),
    "16 bits, white is 0, big-endian": (tiff(DEEP, photometric=0, order=">"), NOT_AN_IMAGE),
    "12 bits, white is 0": (tiff(twelve_bits(TWELVE), (12,), 0), NOT_AN_IMAGE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_another_picture_is_refused(case, tmp_path):
    content, sentence = REFUSED[case]
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(InputError) as caught:
        data.read_image(tmp_path / "x.tif", (HEIGHT, WIDTH))
    assert str(caught.value).endswith(sentence) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, levels, key",
    [
        (png(RAMP, 8, 0, (0,)), RAMP, 0),
        (png(DEEP.astype(">u2"), 16, 0, (0,)), RAMP, 0),
        (png(np.frombuffer(nibbles(FOUR), np.uint8).reshape(HEIGHT, -1), 4, 0, (3,)), FOUR, 51),
    ],
)
def test_a_transparent_grey_is_seen_on_white(content, levels, key, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    read = data.read_image(tmp_path / "x.png", (HEIGHT, WIDTH))[..., 0]
    np.testing.assert_array_equal(read, np.where(levels == key, 255, levels))


@pytest.mark.parametrize(
    "orientation, turned",
    [(2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))],
)
@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg"])
def test_images_are_turned_once(orientation, turned, kind, tmp_path):
    path, exif = tmp_path / f"x.{kind}", Image.Exif()
    exif[0x0112] = orientation
    if kind == "tiff":
        path.write_bytes(tiff(DEEP, orientation=orientation))
    else:
        Image.fromarray(RAMP).save(path, exif=exif, quality=95)
    expected = turned(RAMP)
    read = data.read_image(path, expected.shape)[..., 0].astype(int)
    assert np.abs(read - expected).max() <= (6 if kind == "jpeg" else 0)


def test_black_is_no_refusal(tmp_path):
    Image.new("I;16", (9, 9)).save(tmp_path / "black.png")
    assert data.read_image(tmp_path / "black.png", (9, 9)).max() == 0
