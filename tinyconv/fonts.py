"""Fonts for the class names in pictures."""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import font_manager


def drawable(names: Sequence[str], title: str) -> tuple[Sequence[str], str, list[str]]:
    """Find installed fonts that can draw class names and a title.

    If no font can draw a class name, the numbers of the classes replace all names. A question mark
    replaces each such character of the title. A line on the terminal reports missing characters.

    Args:
        names: the class names.
        title: the title of the picture.

    Returns:
        The class names, the title and the font families, all to be drawn. Families that are not
        among Matplotlib's default families may lack a bold face.
    """
    names, title = [_without_controls(name) for name in names], _without_controls(title)
    families = list(matplotlib.rcParams["font.family"])
    wanted = set("".join((*names, title))) - {"\n"}
    known = _characters(families[0]) & _characters(families[0], "bold")
    missing = {c for c in wanted if ord(c) not in known}
    if not missing:
        return names, title, families
    _find_new_fonts()
    own = matplotlib.get_data_path()
    entries = (e for e in font_manager.fontManager.ttflist if not e.fname.startswith(own))
    fonts = {name: _characters(name) for name in sorted({entry.name for entry in entries})}
    while fonts:
        has = {name: {c for c in missing if ord(c) in fonts[name]} for name in fonts}
        best = max(has, key=lambda name: len(has[name]))
        if not has[best]:
            break
        families.append(best)
        missing -= has[best]
    if missing:
        _say(tuple(sorted(missing)))
        title = "".join("?" if c in missing else c for c in title)
        if missing.intersection("".join(names)):
            names = [str(number) for number in range(len(names))]
    return names, title, families


def _without_controls(text: str) -> str:
    return "".join(" " if unicodedata.category(c) == "Cc" and c != "\n" else c for c in text)


@functools.cache
def _characters(family: str, weight: str = "normal") -> frozenset[int]:
    """The code points that a font family can draw."""
    wanted = font_manager.FontProperties(family=[family], weight=weight)
    try:
        font = font_manager.get_font(font_manager.findfont(wanted, fallback_to_default=False))
        return frozenset(font.get_charmap() if font.scalable else ())
    except (ValueError, RuntimeError, OSError):  # the file is gone, or FreeType cannot read it
        return frozenset()


def _find_new_fonts() -> None:
    """Add the fonts that were installed after Matplotlib wrote its list."""
    known = {Path(entry.fname) for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if Path(path) not in known:
            try:
                font_manager.fontManager.addfont(path)
            except (ValueError, RuntimeError, OSError, KeyError, AttributeError):
                continue  # FreeType cannot read the file


@functools.cache
def _say(missing: tuple[str, ...]) -> None:
    shown = ", ".join(f"U+{ord(c):04X}" for c in missing[:5])
    more = " and others" if len(missing) > 5 else ""
    print(
        f"No installed font has the characters {shown}{more}: the pictures show numbers for class "
        "names and question marks in titles; install a font that has them, such as Noto Sans CJK "
        "for Chinese, Japanese and Korean."
    )
