"""Figures of several nets as a bar chart."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from tinyconv import plots
from tinyconv.timing.figures import Spread, Timing


def draw(timings: Sequence[Timing], caption: str, path: Path) -> None:
    """Draw training, inference and latency of the nets as bars with ranges, and write a PNG.

    A figure that was not measured is a dash.
    """
    picture, axes = plots.figure(12, 1.6 + 0.45 * len(timings), columns=3)
    names = [timing.name for timing in timings]
    panels = (
        ("Training, images per second", [t.best for t in timings], 1),
        ("Inference by 64, images per second", [t.inference for t in timings], 1),
        ("One image, milliseconds", [t.latency for t in timings], 1000),
    )
    for ax, (title, spreads, scale) in zip(axes, panels, strict=True):
        spreads = [Spread(s.values or (0.0,)) for s in spreads]
        medians = [scale * s.median for s in spreads]
        highs = [t.latency_p99 for t in timings] if scale > 1 else [s.high for s in spreads]
        lows = [scale * s.low for s in spreads]
        ends = [scale * high for high in highs]
        ax.barh(names, medians, color=plots.TEST, height=0.6)
        ax.hlines(names, lows, ends, color=plots.INK, lw=1)
        for name, median, end in zip(names, medians, ends, strict=True):
            digits = 0 if median >= 100 else 1 if median >= 1 else 2
            text = f"{median:,.{digits}f}" if median else "-"
            ax.annotate(text, (end, name), (6, 0), textcoords="offset points", va="center")
        ax.set_title(title, loc="left", color=plots.INK)
        ax.margins(x=0.18)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", color=plots.GRID)
        ax.invert_yaxis()
    for ax in axes[1:]:
        ax.set_yticklabels([])
    caption = textwrap.fill(caption, 190)
    picture.supxlabel(caption, fontsize=8, color=plots.INK, x=0.01, ha="left")
    plots.save(picture, path)
