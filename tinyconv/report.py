"""How good a net is: losses, accuracies, the report class by class, the size of the net."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tinyconv.data import Batches, Split


@dataclass(frozen=True)
class Evaluation:
    """What a net answered to a split: logits (N, classes) beside labels (N,)."""

    logits: np.ndarray
    labels: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(axis=-1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        losses = keras.losses.sparse_categorical_crossentropy(
            self.labels, self.logits, from_logits=True
        )
        return float(keras.ops.mean(losses))

    @property
    def accuracy(self) -> float:
        return float((self.predictions == self.labels).mean())

    def figures(self) -> dict[str, float | int]:
        return {
            "images": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "error": 1 - self.accuracy,
        }

    def by_class(self, class_names: tuple[str, ...], as_dict: bool = False) -> Any:
        """scikit-learn's classification report, as text to three decimals or as a dict."""
        from sklearn.metrics import classification_report

        return classification_report(
            self.labels,
            self.predictions,
            labels=range(len(class_names)),
            target_names=class_names,
            digits=3,
            zero_division=0,
            output_dict=as_dict,
        )

    def confusion(self, classes: int) -> np.ndarray:
        """(classes, classes) counts: a row per true class, a column per predicted one."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.labels, self.predictions, labels=range(classes))


def evaluate(model: keras.Model, split: Split, batch_size: int = 256) -> Evaluation:
    """Ask `model` about every image of `split`, with a progress bar."""
    logits = model.predict(Batches(split, batch_size), verbose="auto")
    return Evaluation(np.asarray(logits, np.float32), split.labels)


def macs(model: keras.Model) -> int:
    """Multiply-adds for one image: convolutions and matrix products, by their weights alone.

    Biases, normalizations and activations are left out, and so are per-channel scales, written
    here as 1x1 depthwise convolutions.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            if layer.kernel_size == (1, 1) and layer.depth_multiplier == 1:
                continue
        elif not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            continue
        positions = np.prod(layer.output.shape[1:-1], dtype=int)
        total += int(positions) * int(np.prod(layer.kernel.shape))
    return total


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
