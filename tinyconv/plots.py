"""Pictures of a run: curves and confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tinyconv.atomic import replacing
from tinyconv.fonts import drawable

TRAIN, TEST = "#8a8f98", "#1f6feb"
INK, GRID = "#24292f", "#e6e8eb"


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list]:
    """Make a figure with `columns` axes side by side. `width` and `height` are in inches."""
    picture = Figure(figsize=(width, height), layout="constrained")
    axes = picture.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#b6bbc2")
        ax.tick_params(colors=INK, length=0)
        ax.grid(axis="y", color=GRID)
        ax.set_axisbelow(True)
    return picture, list(axes)


def save(picture: Figure, path: Path, description: str = "") -> None:
    """Write a figure as a PNG with `description` in its metadata.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path) as partial:
        picture.savefig(partial, dpi=150, metadata={"Description": description})


def draw_curve(ax, history: Sequence[dict], key: str, validation: str, as_percent: bool) -> None:
    """Draw one metric over the epochs, in training and in validation.

    Args:
        ax: the axes to draw on.
        history: a dict of metrics for each epoch.
        key: the name of the metric. `val_` and this name give the metric in validation.
        validation: the name of the images to validate on, for the legend.
        as_percent: whether the metric is a share that is drawn in percent.
    """
    epochs = [row["epoch"] for row in history]
    scale = 100 if as_percent else 1
    marker = "o" if len(epochs) < 15 else None
    for column, name, color in ((key, "training", TRAIN), (f"val_{key}", validation, TEST)):
        values = [row[column] * scale for row in history]
        last = f"{values[-1]:.1f}%" if as_percent else f"{values[-1]:.3f}"
        ax.plot(
            epochs, values, color=color, lw=2, marker=marker, ms=4, label=f"{name}, at last {last}"
        )
    ax.set_title("Accuracy, %" if as_percent else "Loss", loc="left", color=INK)
    ax.set_xlabel("epoch", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.legend(frameon=False, labelcolor=INK)


def curves(history: Sequence[dict], validation: str, title: str, path: Path) -> None:
    """Draw accuracy and loss over the epochs, and write a PNG to `path`."""
    _, title, families = drawable((), title)
    weight = "bold" if families == rcParams["font.family"] else "normal"
    with rc_context({"font.family": families}):
        picture, (left, right) = figure(11, 4.2, columns=2)
        draw_curve(left, history, "accuracy", validation, as_percent=True)
        draw_curve(right, history, "loss", validation, as_percent=False)
        picture.suptitle(title, color=INK, x=0.01, ha="left", weight=weight, parse_math=False)
        save(picture, path)


def confusion(matrix: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix in percent of each true class, and write a PNG to `path`.

    Args:
        matrix: counts (classes, classes), with a row per true class.
        class_names: the names of the classes.
        title: the title of the picture.
        path: the PNG to write.
    """
    class_names, title, families = drawable(class_names, title)
    with rc_context({"font.family": families}):
        picture = _confusion(matrix, class_names, title)
        save(picture, path)


def _confusion(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    count = len(class_names)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(20.0, 3.5 + 0.45 * count)
    picture = Figure(figsize=(side, side), layout="constrained")
    ax = picture.subplots()
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=10)
    ax.set_xticks(range(count), class_names, rotation=90, fontsize=9, parse_math=False)
    ax.set_yticks(range(count), class_names, fontsize=9, parse_math=False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    many = count > 30  # then only large shares are printed as numbers
    for (row, column), value in np.ndenumerate(share):
        if value >= (5 if many else 0.5):
            color = "white" if value > 40 else INK
            size = 6 if many else 8
            text = f"{value:.0f}"
            ax.text(column, row, text, color=color, fontsize=size, ha="center", va="center")
    ax.set_title(title, loc="left", fontsize=10, parse_math=False)
    return picture
