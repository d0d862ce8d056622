"""Class names in any script: drawn where a font has it, else numbers and a sentence."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from tinyconv import fonts, plots

NAMES = ["红色", "blue"]


@pytest.fixture(autouse=True)
def no_fonts_of_the_machine(monkeypatch):
    """Only the fonts that Matplotlib brings along, whatever is installed here."""
    own = fonts.matplotlib.get_data_path()
    listed = [e for e in font_manager.fontManager.ttflist if e.fname.startswith(own)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    for cached in (fonts._characters, fonts._say):
        cached.cache_clear()
    yield
    fonts._characters.cache_clear()


def make_font(path, characters):
    """A font of squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"uni{ord(c):04X}" for c in characters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"uni{ord(c):04X}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def draw(tmp_path, names, title="digits, 3 epochs"):
    history = [{"epoch": 1, "accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.curves(history, "test", title, tmp_path / "curves.png")
        plots.confusion(np.eye(len(names)), names, title, tmp_path / "confusion.png")
    return [(tmp_path / name).read_bytes() for name in ("curves.png", "confusion.png")]


def test_without_a_font_the_classes_are_numbers(tmp_path, capsys, caplog):
    _, numbered = draw(tmp_path, ["0", "1"])
    assert capsys.readouterr().out == ""
    _, drawn = draw(tmp_path, NAMES)
    assert drawn == numbered
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("No installed font has the characters U+7EA2, U+8272: the pictures show")
    assert line.isascii() and not caplog.records


def test_without_a_font_a_title_keeps_what_can_be_drawn(tmp_path, capsys):
    asked = draw(tmp_path, ["a", "b"], "tiniest on ??, 3 epochs")
    assert draw(tmp_path, ["a", "b"], "tiniest on 红色, 3 epochs") == asked
    (line,) = capsys.readouterr().out.splitlines()  # for two pictures
    assert "U+7EA2, U+8272" in line


@pytest.mark.parametrize("listed", [True, False])
def test_a_font_that_has_them_is_found(listed, tmp_path, monkeypatch, capsys, caplog):
    make_font(tmp_path / "squares.ttf", "红色")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    if listed:
        font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    else:  # installed after Matplotlib wrote its list
        paths = [str(path) for path in tmp_path.glob("*.ttf")]
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    names, title, families = fonts.drawable(NAMES, "on 红色")
    assert (names, title, families[1:]) == (NAMES, "on 红色", ["Squares"])
    _, drawn = draw(tmp_path, NAMES, "on 红色")
    _, numbered = draw(tmp_path, ["0", "1"], "on 红色")
    assert drawn != numbered
    assert capsys.readouterr().out == "" and not caplog.records


def test_controls_and_lines_are_no_reason(tmp_path, capsys):
    assert fonts.drawable(["a\tb", "two\nlines", "\u00fcn\u00ef"], "t")[0] == [
        "a b",
        "two\nlines",
        "\u00fcn\u00ef",
    ]
    draw(tmp_path, ["a\tb", "two\nlines"])
    assert capsys.readouterr().out == ""
