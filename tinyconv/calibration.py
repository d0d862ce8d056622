"""Calibration: whether the probability of an answer is the share of such answers that are right.

Paper: https://arxiv.org/abs/1706.04599 (calibration error, temperature scaling).
"""

from dataclasses import dataclass

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tinyconv.graph import Graph, source

BINS = 15
HOTTEST = 100.0  # the largest temperature, and the inverse of the smallest


@dataclass(frozen=True)
class Reliability:
    """The answers of a net in bins of equal width of their confidence, without empty bins.

    Args:
        confidence: the mean probability of the predicted class in each bin.
        accuracy: the share of right answers in each bin.
        count: the number of answers in each bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (ECE): the mean gap, 0 to 1, weighted by the counts."""
        if not len(self.count):
            return float("nan")
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.count))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort the answers of a net into bins of their confidence. Answers with NaN are left out.

    Args:
        probabilities: the probability of each class, (N, classes).
        labels: the labels, (N,).
        bins: the number of bins from 0 to 1.
    """
    known = np.isfinite(probabilities).all(axis=-1)
    probabilities, labels = probabilities[known], labels[known]
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count, sums, hits = (np.bincount(index, weights, bins) for weights in (None, confidence, right))
    full = count > 0
    return Reliability(sums[full] / count[full], hits[full] / count[full], count[full])


def temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature that the logits are divided by for the smallest cross-entropy.

    Args:
        logits: the logits, (N, classes).
        labels: the labels, (N,).

    Returns:
        The temperature. It is None if all answers are right: the smaller the temperature, the
        smaller the cross-entropy then is.
    """
    if (logits.argmax(axis=-1) == labels).all():
        return None
    own = np.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(logsumexp(scale * logits, axis=-1) - scale * own))

    limit = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def head(model: keras.Model) -> keras.layers.Dense | None:
    """The linear Dense layer whose outputs are those of a model, if the layer is called once.

    Returns:
        The layer, or None. A division of its weights would also divide the outputs of other calls.
    """
    layer = source(model.output).operation
    alone = type(layer) is keras.layers.Dense and Graph(model).calls[layer] == 1
    return layer if alone and layer.activation is keras.activations.linear else None


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divide the logits of a model by `temperature`, in the weights of its head."""
    layer = head(model)
    assert layer
    for weight in layer.weights:
        weight.assign(weight / temperature)
