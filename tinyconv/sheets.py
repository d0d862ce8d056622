"""Pictures of an evaluation and of single answers: reliability, mistakes, explanations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from tinyconv.calibration import Reliability
from tinyconv.data.splits import Split
from tinyconv.fonts import drawable
from tinyconv.plots import INK, TEST, TRAIN, figure, save

MISTAKES = 25  # the most images in a picture of mistakes
COLUMNS = 5


def reliability(parts: Mapping[str, Reliability], title: str, path: Path) -> None:
    """Draw the share of right answers against their probability, and write a PNG to `path`.

    Args:
        parts: a dict from the labels in the legend to the answers. The first is the main one.
        title: the title of the picture.
        path: the PNG to write.
    """
    _, title, families = drawable((), title)
    with rc_context({"font.family": families}):
        picture, (left, right) = figure(11, 4.6, columns=2)
        left.plot([0, 100], [0, 100], color=TRAIN, lw=1, ls="--", label="perfect calibration")
        for (name, found), color in zip(parts.items(), (TEST, TRAIN), strict=False):
            label = f"{name or 'answers'}, error {found.error:.1%}"
            percent = 100 * found.confidence, 100 * found.accuracy
            left.plot(*percent, color=color, lw=2, marker="o", ms=4, label=label)
        left.set_title("Right answers, %", loc="left", color=INK)
        left.legend(frameon=False, labelcolor=INK)
        main = next(iter(parts.values()))
        right.bar(100 * main.confidence, main.count, width=4, color=TEST)
        right.set_title("Number of answers", loc="left", color=INK)
        for ax in (left, right):
            ax.set_xlim(0, 102)
            ax.set_xlabel("probability of the predicted class, %", color=INK)
        picture.suptitle(title, color=INK, x=0.01, ha="left", parse_math=False)
        save(picture, path)


def mistakes(
    split: Split, shares: np.ndarray, class_names: Sequence[str], title: str, path: Path
) -> None:
    """Draw the wrong answers with the highest probabilities, and write a PNG to `path`.

    Args:
        split: the images and labels.
        shares: the probability of each class, (N, classes).
        class_names: the names of the classes.
        title: the title of the picture.
        path: the PNG to write.
    """
    names, title, families = drawable(class_names, title)
    wrong = np.flatnonzero(shares.argmax(axis=-1) != split.labels)
    worst = wrong[np.argsort(-shares[wrong].max(axis=-1), kind="stable")][:MISTAKES]
    chosen = split.take(worst)
    images = chosen.images[np.arange(len(worst))]
    rows = max(1, math.ceil(len(worst) / COLUMNS))
    with rc_context({"font.family": families}):
        picture = Figure(figsize=(11, 0.8 + 2.5 * rows), layout="constrained")
        axes = picture.subplots(rows, COLUMNS, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, image, label, share in zip(
            axes, images, chosen.labels, shares[worst], strict=False
        ):
            ax.imshow(image)
            text = f"{names[share.argmax()]} {share.max():.0%}\nis {names[label]}"
            ax.set_title(text, fontsize=9, color=INK, parse_math=False)
        what = f"the {len(worst)} most probable of {len(wrong):,} wrong answers"
        picture.suptitle(f"{title}\n{what}", color=INK, x=0.01, ha="left", parse_math=False)
        save(picture, path)


@dataclass(frozen=True)
class Explained:
    """An explained answer.

    Args:
        name: the name of the image.
        image: the image that the net sees, (height, width, 3).
        fall: the result of `tinyconv.saliency.occlusion`.
        class_name: the class that `fall` is for.
        index: the index of that class.
        top: the most probable classes, as of `tinyconv.prediction.best`.
    """

    name: str
    image: np.ndarray
    fall: np.ndarray
    class_name: str
    index: int
    top: list[dict[str, Any]]


def explanations(rows: Sequence[Explained], path: Path) -> None:
    """Draw a row for each image, and write a PNG to `path`.

    A row has the image, the parts that the answer depends on, and the most probable classes.
    """
    classes = {entry["class"]: str(entry["index"]) for row in rows for entry in row.top}
    classes |= {row.class_name: str(row.index) for row in rows}
    titles = "\n".join(row.name.replace("\n", " ") for row in rows)
    drawn, titles, families = drawable(list(classes), titles)
    numbers = [str(number) for number in range(len(classes))]
    if list(drawn) == numbers != list(classes):  # no font can draw the names
        drawn = list(classes.values())
    shown = dict(zip(classes, drawn, strict=True))
    with rc_context({"font.family": families}):
        picture = Figure(figsize=(11, 3.3 * len(rows)), layout="constrained")
        axes = picture.subplots(len(rows), 3, squeeze=False)
        for (image, heat, bar), row, title in zip(axes, rows, titles.split("\n"), strict=True):
            names, class_name = [shown[entry["class"]] for entry in row.top], shown[row.class_name]
            for ax in (image, heat):
                ax.set_axis_off()
            image.imshow(row.image)
            image.set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)
            most = max(float(np.abs(row.fall).max()), 1e-6)
            heat.imshow(row.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            drawn_map = heat.imshow(
                100 * row.fall, cmap="RdBu_r", vmin=-100 * most, vmax=100 * most, alpha=0.6
            )
            heat.set_title(
                f"{class_name}: fall in points if hidden",
                fontsize=9,
                color=INK,
                loc="left",
                parse_math=False,
            )
            picture.colorbar(drawn_map, ax=heat, shrink=0.8).outline.set_visible(False)
            shares = [100 * entry["probability"] for entry in row.top]
            bar.barh(range(len(shares)), shares, color=TEST)
            bar.set_yticks(range(len(shares)), names, fontsize=9, parse_math=False)
            bar.invert_yaxis()
            bar.set_xlim(0, 100)
            bar.set_title("probability, %", fontsize=9, color=INK, loc="left")
            bar.spines[["top", "right"]].set_visible(False)
        save(picture, path)
