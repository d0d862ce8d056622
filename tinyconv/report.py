"""Evaluation of a net, its number of parameters, and its number of multiply-adds."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tinyconv import calibration, outputs, terminal
from tinyconv.data import Batches, Split
from tinyconv.table import table


@dataclass(frozen=True)
class Evaluation:
    """The outputs of a net for a split, and metrics of them.

    Args:
        logits: the outputs of the net, (N, classes).
        labels: the labels, (N,).
        probabilities: whether `logits` holds probabilities, as of a net that ends in a softmax.
    """

    logits: np.ndarray
    labels: np.ndarray
    probabilities: bool = False

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each image, (N,)."""
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
        """The share of images, 0 to 1, whose most probable class is right."""
        return float((self.predictions == self.labels).mean())

    @property
    def top5(self) -> float:
        """The share of images, 0 to 1, whose class has one of the five largest logits."""
        best = np.argsort(-self.logits, axis=-1, kind="stable")[:, :5]
        return float((best == self.labels[:, None]).any(axis=-1).mean())

    @property
    def shares(self) -> np.ndarray:
        """The probability of each class, (N, classes)."""
        return outputs.to_probabilities(self.logits, self.probabilities)

    def reliability(self) -> calibration.Reliability:
        """The answers in bins of their confidence."""
        return calibration.reliability(self.shares, self.labels)

    def figures(self) -> dict[str, float | int]:
        """The number of images, the loss, and the accuracies and the errors as shares."""
        return {
            "images": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "error": 1 - self.accuracy,
            "top5": self.top5,
            "calibration_error": self.reliability().error,
        }

    def text(self, class_names: tuple[str, ...]) -> str:
        """All metrics as text for a terminal."""
        right = int((self.predictions == self.labels).sum())
        head = (
            f"{right:,} of {len(self.labels):,} images right: accuracy {self.accuracy:.2%}, "
            f"error {1 - self.accuracy:.2%}, top-5 {self.top5:.2%}, loss {self.loss:.4f}, "
            f"calibration error {self.reliability().error:.2%}"
        )
        return f"{head}\n\n{self.by_class(class_names)}"

    def by_class(self, class_names: tuple[str, ...], as_dict: bool = False) -> Any:
        """scikit-learn's classification report, as text with three decimals or as a dict."""
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
        """The confusion matrix: counts (classes, classes), with a row per true class."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.labels, self.predictions, labels=range(classes))


@terminal.without_misleading_logs()
def evaluate(
    model: keras.Model,
    split: Split,
    batch_size: int = 256,
    bar: bool = True,
    probabilities: bool = False,
) -> Evaluation:
    """Evaluate a model on every image of a split.

    Args:
        model: the model.
        split: the images and labels.
        batch_size: images per batch.
        bar: whether to show a progress bar if stdout is a terminal or a notebook.
        probabilities: whether the outputs of the model are probabilities rather than logits.

    Returns:
        The outputs and the labels.
    """
    verbose = int(bar and terminal.bars())
    logits = model.predict(Batches(split, batch_size), verbose=verbose)
    return Evaluation(np.asarray(logits, np.float32), split.labels, probabilities)


def parameters(model: keras.layers.Layer) -> int:
    """The number of parameters of `model`, without the moving statistics of batch norms."""
    statistics = ("moving_mean", "moving_variance")
    return sum(math.prod(w.shape) for w in model.weights if w.name not in statistics)


def layer_macs(layer: keras.layers.Layer) -> int:
    """The multiply-adds of one layer for one image.

    Only the products with the kernels of convolutions and dense layers count. These do not count:

    - biases, normalizations and activations;
    - per-channel scales, which are 1x1 depthwise convolutions;
    - learned tokens, which are `EinsumDense` layers;
    - the products of queries, keys and values in attention.
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        if layer.kernel_size == (1, 1) and layer.depth_multiplier == 1:
            return 0
    elif not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return 0
    return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)


def macs(model: keras.Model) -> int:
    """The multiply-adds of `model` for one image, as `layer_macs` counts them."""
    return sum(map(layer_macs, model.layers))


def summary(model: keras.Model) -> str:
    """A table of the layers of `model`: type, shapes, parameters and multiply-adds."""

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
