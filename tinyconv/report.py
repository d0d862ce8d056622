"""How good a net is: losses, accuracies, the report class by class, the size of the net."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tinyconv import terminal
from tinyconv.data import Batches, Split
from tinyconv.table import table


@dataclass(frozen=True)
class Evaluation:
    """What a net answered to a split: logits (N, classes) beside labels (N,).

    The `logits` of a net that ends in a softmax are `probabilities`.
    """

    logits: np.ndarray
    labels: np.ndarray
    probabilities: bool = False

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(axis=-1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        losses = keras.losses.sparse_categorical_crossentropy(
            self.labels, self.logits, from_logits=not self.probabilities
        )
        return float(keras.ops.mean(losses))

    @property
    def accuracy(self) -> float:
        return float((self.predictions == self.labels).mean())

    @property
    def top5(self) -> float:
        """The share of images whose class is among the five largest logits."""
        best = np.argsort(-self.logits, axis=-1, kind="stable")[:, :5]
        return float((best == self.labels[:, None]).any(axis=-1).mean())

    def figures(self) -> dict[str, float | int]:
        return {
            "images": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "error": 1 - self.accuracy,
            "top5": self.top5,
        }

    def text(self, class_names: tuple[str, ...]) -> str:
        """All of it for a terminal."""
        right = int((self.predictions == self.labels).sum())
        head = (
            f"{right:,} of {len(self.labels):,} images right: accuracy {self.accuracy:.2%}, "
            f"error {1 - self.accuracy:.2%}, top-5 {self.top5:.2%}, loss {self.loss:.4f}"
        )
        return f"{head}\n\n{self.by_class(class_names)}"

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


def evaluate(
    model: keras.Model,
    split: Split,
    batch_size: int = 256,
    bar: bool = True,
    probabilities: bool = False,
) -> Evaluation:
    """Ask `model` about every image of `split`, with a progress bar in a terminal if `bar`.

    The outputs of `model` are logits, or already `probabilities`.
    """
    verbose = int(bar and terminal.bars())
    logits = model.predict(Batches(split, batch_size), verbose=verbose)
    return Evaluation(np.asarray(logits, np.float32), split.labels, probabilities)


def parameters(model: keras.layers.Layer) -> int:
    """How many numbers training changes; a batch norm's running statistics are none of them."""
    statistics = ("moving_mean", "moving_variance")
    return sum(math.prod(w.shape) for w in model.weights if w.name not in statistics)


def layer_macs(layer: keras.layers.Layer) -> int:
    """Multiply-adds of one layer for one image: convolutions and matrix products, by weights alone.

    Biases, normalizations and activations are left out, and so are per-channel scales, written
    here as 1x1 depthwise convolutions, learned tokens, written as an `EinsumDense` of the number
    1, and attention's products of queries, keys and values, none of which is a weight.
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        if layer.kernel_size == (1, 1) and layer.depth_multiplier == 1:
            return 0
    elif not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return 0
    return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)


def macs(model: keras.Model) -> int:
    """Multiply-adds of `model` for one image, as `layer_macs` counts them."""
    return sum(map(layer_macs, model.layers))


def summary(model: keras.Model) -> str:
    """The layers of `model` as a table: shapes, parameters and their share, multiply-adds."""

    def shape(tensor: Any) -> str:
        one = tensor[0] if isinstance(tensor, list) else tensor
        return " x ".join(map(str, one.shape[1:]))

    whole = parameters(model)
    rows = [("layer", "type", "input", "output", "parameters", "share", "multiply-adds")]
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        own, count = parameters(layer), layer_macs(layer)
        rows.append(
            (
                layer.name,
                type(layer).__name__,
                shape(layer.input),
                shape(layer.output),
                f"{own:,}" if own else "-",
                f"{own / whole:.2%}" if own else "-",
                f"{count:,}" if count else "-",
            )
        )
    rows.append((model.name, "", "", "", f"{whole:,}", "100.00%", f"{macs(model):,}"))
    return table(rows)
