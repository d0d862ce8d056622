"""Draws cifar10_tiny, its parts, its training and augmented images.

    python images/draw.py [--out DIR]

Every name, shape, size, rate and count in a picture is from the built model. The curves are from
the logs of two trainings. The metadata of each picture has a fingerprint of the net, the log or the
names that the picture shows. A test compares the fingerprints and the pixels of the augmented
images, and fails if a picture is stale.
"""

import argparse
import csv
import hashlib
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path

import keras
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.path import Path as Line
from PIL import Image
from sklearn.datasets import load_sample_images

from tinyconv import cli, create_model
from tinyconv.atomic import check_writable
from tinyconv.augment import AUGMENTATIONS, Augmentation
from tinyconv.mixing import CutMix, Mixup
from tinyconv.plots import GRID, INK, TEST, TRAIN, draw_curve, figure, save
from tinyconv.recipes import RECIPES

ROOT = Path(__file__).parents[1]
LOGS = {  # recipe -> the log of a training of cifar10_tiny on CIFAR-10
    "cifar10_tiny": ROOT / "docs" / "recipes" / "cifar10_tiny.csv",
    "muon": ROOT / "docs" / "recipes" / "muon.csv",
}

SOFT, GREEN, AMBER = "#656d76", "#2a9d8f", "#e09f3e"
COLORS = {"stem": GREEN, "stage": TEST, "downscale": AMBER, "head": GREEN}
MARGIN, LINE, LABEL = 0.35, 0.22, 2.0  # all lengths in this file are in inches


def times(numbers) -> str:
    return "\u2009\u00d7\u2009".join(map(str, numbers))


def shape(tensor) -> str:
    return times(tensor.shape[1:])


def parameters(layers) -> int:
    return sum(layer.count_params() for layer in layers)


def groups(layers, words: int) -> dict[str, list]:
    """Group layers by the first words of their names: one word for stages, two words for blocks."""
    named = groupby(layers, lambda layer: "_".join(layer.name.split("_")[:words]))
    return {name: list(members) for name, members in named}


def describe(layer) -> str:
    """The operation of a layer and, after a comma, its settings."""
    match layer:
        case keras.layers.DepthwiseConv2D(kernel_size=(1, 1), depthwise_initializer=start):
            return f"layer scale, per channel; {start.value:g} at first"
        case keras.layers.DepthwiseConv2D(kernel_size=kernel, depth_multiplier=count):
            return f"{times(kernel)} depthwise conv, {count} filters per channel"
        case keras.layers.Conv2D(kernel_size=kernel):
            return f"{times(kernel)} conv"
        case keras.layers.MaxPooling2D(pool_size=window):
            return f"{times(window)} max pool"
        case keras.layers.GlobalAveragePooling2D():
            return "average pool"
        case keras.layers.LayerNormalization(epsilon=epsilon):
            return f"layer norm, epsilon {epsilon:g}"
        case keras.layers.Dropout(rate=rate):
            return f"dropout, rate {rate:g}"
        case keras.layers.Dense(units=units):
            return f"dense, {layer.input.shape[-1]} → {units} in every pixel"
    return layer.name.split("_")[-1]


def write(ax, x: float, y: float, text: str, color: str = INK, size=10, ha="center", **style):
    ax.text(x, y, text, color=color, size=size, ha=ha, va="center", **style)


def fill(ax, corners, color: str, white: float = 0) -> None:
    shade = np.array(to_rgb(color)) * (1 - white) + white
    ax.add_patch(Polygon(corners, facecolor=shade, edgecolor="white", joinstyle="round", lw=0.5))


def arrow(ax, *points) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(path=Line(points), color=TRAIN, lw=1.3, **style))


def page(width: float, height: float, title: str, caption: str):
    """A picture with a title and a caption. Coordinates are in inches, from the lower left."""
    picture = Figure(figsize=(width, height))
    ax = picture.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.set_axis_off()
    write(ax, MARGIN, height - 0.45, title, size=16, ha="left", weight="bold")
    write(ax, MARGIN, height - 0.98, caption, size=10.5, ha="left", linespacing=1.5)
    return picture, ax


def draw_box(ax, corner, width: float, height: float, back, color: str, pixels, marks) -> None:
    """Draw a tensor as a box.

    If `marks` is positive, its side is ruled into pixels, and one cell of a grid of `marks` x
    `marks` is dark.
    """
    across, up = np.diag((width, height))
    side = corner + across
    faces = (corner, across, up, 0.2), (corner + up, across, back, 0.68), (side, back, up, 0.45)
    for start, one, other, white in faces:
        fill(ax, [start, start + one, start + one + other, start + other], color, white)
    if marks:
        for step in np.arange(1, pixels) / pixels:
            for start, along in ((back, up), (up, back)):
                ends = side + step * start + np.outer((0, 1), along)
                ax.plot(*ends.T, color="white", lw=0.5)
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) + marks // 2
        fill(ax, side + square @ [back, up] / marks, INK)


def draw_row(columns, title, caption, scale, gap, depth, below=0.0, marks=0):
    """Draw tensors side by side, with lines of text below each.

    A column is (tensor, colour, number of boxes, lines). `scale` is (inches per channel, inches per
    pixel).
    """
    apart, narrowest, depth = 0.08, 0.8, np.array(depth)
    tallest = columns[0][0].shape[1] * scale[1] * (1 + depth[1])
    floor = MARGIN + below + LINE * max(len(lines) for *_, lines in columns) + 0.1
    middle, left, end = floor + tallest / 2, MARGIN, None
    picture, ax = page(1, floor + tallest + 1.55, title, caption)
    for tensor, color, number, lines in columns:
        pixels, channels = (1, *tensor.shape)[-3], tensor.shape[-1]  # a vector has one pixel
        width, height = channels * scale[0], pixels * scale[1]
        extent = number * (width + apart) - apart + depth[0] * height
        slot = max(extent, narrowest)
        start = left + (slot - extent) / 2
        if end:
            arrow(ax, (end + 0.06, middle), (start - 0.06, middle))
        for index in range(number):
            corner = start + index * (width + apart), middle - height * (1 + depth[1]) / 2
            draw_box(ax, corner, width, height, depth * height, color, pixels, marks)
        for index, line in enumerate(lines):
            style = {"size": 11, "weight": "bold"} if index == 0 else {}
            y = floor - 0.2 - LINE * index
            write(ax, left + slot / 2, y, line, INK if index < 3 else SOFT, **style)
        end, left = start + extent, left + slot + gap
    picture.set_figwidth(left - gap + MARGIN)
    ax.set_xlim(0, left - gap + MARGIN)
    return picture, ax


def draw_net(model) -> Figure:
    """Draw all parts of a net side by side, above a bar with the share of parameters of each."""
    columns, shares, whole = [], [], model.count_params()
    for part, layers in groups(model.layers, 1).items():
        color, number, tensor = COLORS.get(part.rstrip("0123456789"), TRAIN), 1, layers[-1].output
        words = [describe(layer).split(",")[0] for layer in layers] if len(layers) > 1 else []
        if part.startswith("stage"):
            number, narrow, wide = len(groups(layers, 2)), tensor.shape[-1], layers[0]
            inside = f"(\u00d7{wide.depth_multiplier} inside)"
            widths = f"{narrow} → {wide.output.shape[-1]} → {narrow}"
            words = [f"{number} bottlenecks", inside, widths]
        elif part == "head":
            tensor = layers[0].output
        lines = [part, shape(tensor), f"{parameters(layers):,}", *words]
        columns.append((tensor, color, number, lines))
        shares.append((part, parameters(layers) / whole, color))
    columns.append((model.output, INK, 1, ["logits", shape(model.output)]))
    axes = times(("height", "width", "channels"))
    caption = (
        f"{whole:,} parameters. Each box is a tensor, to scale: its height and depth are the "
        "resolution, its width the channels.\n"
        f"Below each: {axes}, parameters, and the layers behind it."
    )
    look = {"scale": (0.0046, 2.1 / 32), "gap": 0.24, "depth": (0.26, 0.17), "below": 0.65}
    picture, ax = draw_row(columns, model.name, caption, **look)
    left = MARGIN
    for part, share, color in shares:
        right = left + share * (picture.get_figwidth() - 2 * MARGIN)
        fill(ax, [(left, 0.35), (right, 0.35), (right, 0.65), (left, 0.65)], color, 0.1)
        if share > 0.2:
            write(ax, (left + right) / 2, 0.5, f"{part}: {share:.0%} of the parameters", "white")
        left = right
    return picture


def draw_downscale(layers) -> Figure:
    """Draw the layers of a downscale as boxes that are ruled into pixels."""
    source, pool = layers[0].input, layers[1]
    columns = [(source, TEST, 1, ["input", shape(source)])]
    for layer in layers:
        lines = [layer.name, shape(layer.output), f"{layer.count_params():,} parameters"]
        columns.append((layer.output, AMBER, 1, lines + describe(layer).split(", ")))
    caption = (
        f"{shape(source)} → {shape(pool.output)}, {parameters(layers):,} parameters. "
        "The front shows the channels, the ruled side the image:\n"
        f"its dark square is one pixel of the result, {times(pool.pool_size)} before the pool."
    )
    look = {"scale": (0.014, 2.5 / 32), "gap": 0.7, "depth": (0.5, 0.26)}
    title = pool.name.split("_")[0]
    picture, _ = draw_row(columns, title, caption, **look, marks=pool.output.shape[1])
    return picture


def draw_bottleneck(layers) -> Figure:
    """Draw the layers of a bottleneck, as wide as their channels, beside a table."""
    middle, table, shapes, last = 2.85, 5.25, 7.5, 10.65
    row, top = 0.62, 0.62 * len(layers) + 0.75
    tensors = [layers[0].input, *(layer.output for layer in layers)]
    steps, scale = pairwise(tensors), 4 / max(tensor.shape[-1] for tensor in tensors)
    caption = (
        f"A bottleneck, {parameters(layers):,} parameters. Each layer is drawn as wide as its "
        "channels: narrow, wide, narrow.\nDark layers have parameters, pale ones have none."
    )
    title = layers[0].name.rpartition("_")[0]
    picture, ax = page(last + MARGIN, top + 1.95, title, caption)
    write(ax, table, top + 0.2, "layer", SOFT, ha="left")
    write(ax, shapes, top + 0.2, "shape", SOFT, ha="left")
    write(ax, last, top + 0.2, "parameters", SOFT, ha="right")
    for index, (layer, (before, after)) in enumerate(zip(layers, steps, strict=True)):
        y = top - row * (index + 0.5)
        above, below = before.shape[-1] * scale / 2, after.shape[-1] * scale / 2
        corners = [(-above, row / 2), (above, row / 2), (below, -row / 2), (-below, -row / 2)]
        count, (what, _, how) = layer.count_params(), describe(layer).partition(", ")
        fill(ax, np.add(corners, (middle, y)), TEST, 0.2 if count else 0.68)
        ink, name = "white" if count else INK, layer.name.split("_")[-1]
        write(ax, middle, y, name, ink, size=11, weight="bold")
        ax.plot([table, last], [y + row / 2] * 2, color=GRID, lw=1)
        write(ax, table, y + (0.11 if how else 0), what, ha="left")
        write(ax, table, y - 0.11, how, SOFT, ha="left")
        write(ax, shapes, y, f"{shape(before)} → {shape(after)}", ha="left")
        write(ax, last, y, f"{count:,}", ha="right")
    arrow(ax, (middle, top + 0.5), (middle, top + 0.02))
    arrow(ax, (middle, top + 0.3), (0.55, top + 0.3), (0.55, y), (middle - below - 0.04, y))
    arrow(ax, (middle, y - row / 2 - 0.02), (middle, MARGIN - 0.1))
    write(ax, 0.4, (top + y) / 2, "residual", SOFT, rotation=90)
    return picture


def draw_training(histories: dict[str, list[dict]], key: str) -> Figure:
    """Draw one metric of the logged trainings over the epochs, with axes for each recipe."""
    picture, axes = figure(11, 4.2, columns=len(histories))
    for ax, (recipe, history) in zip(axes, histories.items(), strict=True):
        draw_curve(ax, history, key, "test", as_percent=key == "accuracy")
        ax.set_title(f"Recipe {recipe}: {ax.get_title('left').lower()}", loc="left", color=INK)
        ax.sharey(axes[0])
    return picture


def augmentations() -> dict[str, Augmentation]:
    """The augmentation of each row of a picture, by the name of the row."""
    everything = RECIPES["tiniest"].augment
    rows = {"as it is": Augmentation((), seed=0)}
    rows |= {name: Augmentation((name,), seed=0) for name in AUGMENTATIONS}
    rows["mixup, at half time"] = Augmentation((), 0, Mixup(0.5, classes=2, epochs=2))
    rows["cutmix"] = Augmentation((), 0, cutmix=CutMix(0.5, classes=2))
    rows["recipe tiniest"] = Augmentation(everything, 0, Mixup(0.5, classes=2, epochs=2))
    return rows


def draw_augmentations(rows: dict[str, Augmentation]) -> Figure:
    """Draw augmented photographs, with a row for each augmentation."""
    photos = [photo[:427, 100:527] for photo in load_sample_images().images]
    small = [np.asarray(Image.fromarray(photo).resize((32, 32))) for photo in photos]
    images, labels = np.stack(small * 6), np.arange(12) % 2
    cell, gap = 0.82, 0.06
    width, height = LABEL + 12 * (cell + gap) + MARGIN, len(rows) * (cell + gap) + 1.7
    caption = f"Two photographs of {times((32, 32))} pixels; each image and epoch is drawn anew."
    picture, ax = page(width, height, "Augmentation", caption)
    for row, (name, drawn) in enumerate(rows.items()):
        y = height - 1.45 - (row + 1) * (cell + gap)
        write(ax, MARGIN, y + cell / 2, name, size=11, ha="left")
        for column, image in enumerate(np.asarray(drawn(np.int32(1), images, labels)[0])):
            x = LABEL + column * (cell + gap)
            ax.imshow(image.astype(np.uint8), extent=(x, x + cell, y, y + cell), aspect="auto")
    ax.set(xlim=(0, width), ylim=(0, height))
    return picture


def fingerprint(*facts) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def drawings() -> dict[str, tuple[str, Callable[[], Figure]]]:
    """A dict from the file name of each picture to its fingerprint and the function to draw it."""
    model = create_model("cifar10_tiny")
    histories = {
        recipe: [
            {k: float(v) for k, v in row.items()}
            for row in csv.DictReader(path.read_text().splitlines())
        ]
        for recipe, path in LOGS.items()
    }
    net = fingerprint(
        [(x.name, x.output.shape, x.count_params(), describe(x)) for x in model.layers]
    )
    rows = augmentations()
    bottleneck = groups(model.layers, 2)["stage2_block1"]
    downscale = groups(model.layers, 1)["downscale1"]
    return {
        "nn.png": (net, lambda: draw_net(model)),
        "bottleneck.png": (net, lambda: draw_bottleneck(bottleneck)),
        "downscale.png": (net, lambda: draw_downscale(downscale)),
        "augment.png": (fingerprint(list(rows)), lambda: draw_augmentations(rows)),
        "acc.png": (fingerprint(histories), lambda: draw_training(histories, "accuracy")),
        "loss.png": (fingerprint(histories), lambda: draw_training(histories, "loss")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to draw")
    out = parser.parse_args().out
    check_writable(out)
    for name, (description, draw) in drawings().items():
        save(draw(), out / name, description)


if __name__ == "__main__":
    cli.run(main)
