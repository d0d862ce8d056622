"""The loss of a recipe, and the weights of the classes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tinyconv.errors import InputError
from tinyconv.recipe import Recipe


def build(
    recipe: Recipe, *, soft_labels: bool, classes: int, class_weights: list[float] | None = None
) -> keras.losses.Loss:
    """The loss of labels and logits.

    Args:
        recipe: the recipe.
        soft_labels: whether labels are shares of classes (B, classes) rather than indices (B,).
        classes: the number of classes.
        class_weights: the weight of each class. Default: all classes have the weight 1.
    """
    if recipe.label_smoothing or recipe.focal_gamma or class_weights:
        weights = class_weights or classes * [1.0]
        return WeightedLoss(weights, recipe.label_smoothing, recipe.focal_gamma)
    kind = "Categorical" if soft_labels else "SparseCategorical"
    return getattr(keras.losses, f"{kind}Crossentropy")(from_logits=True)


class WeightedLoss(keras.losses.Loss):
    """Cross-entropy or focal loss, with class weights and label smoothing.

    The loss of an image with shares of several classes is the sum of the losses for each class,
    weighted by share and class weight.

    Args:
        class_weights: the weight of each class.
        label_smoothing: the share of each label that is spread over all classes.
        focal_gamma: the exponent of the focal loss. With 0, the loss is the cross-entropy.
    """

    def __init__(self, class_weights: list[float], label_smoothing: float, focal_gamma: float):
        super().__init__(name="loss")
        self.class_weights = np.asarray(class_weights, np.float32)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma

    def weighted_labels(self, labels: Any) -> Any:
        """The product of labels and class weights (B, classes), from shares or indices (B,)."""
        if len(labels.shape) == 1:
            labels = ops.one_hot(ops.cast(labels, "int32"), len(self.class_weights))
        return labels * self.class_weights

    def call(self, labels: Any, logits: Any) -> Any:
        labels = self.weighted_labels(labels)
        spread = ops.mean(labels, axis=-1, keepdims=True)
        labels += self.label_smoothing * (spread - labels)
        if self.focal_gamma:
            return keras.losses.categorical_focal_crossentropy(
                labels, logits, alpha=1.0, gamma=self.focal_gamma, from_logits=True
            )
        return -ops.sum(labels * ops.log_softmax(logits), axis=-1)


def balanced(labels: np.ndarray, names: tuple[str, ...]) -> list[float]:
    """scikit-learn's balanced class weights: inverse to the number of images of each class.

    Args:
        labels: the labels of the training images.
        names: the names of the classes.

    Raises:
        InputError: a class has no training image.
    """
    from sklearn.utils.class_weight import compute_class_weight

    missing = np.setdiff1d(np.arange(len(names)), labels)
    if len(missing):
        raise InputError(
            f"The class {names[missing[0]]} has no training image; balanced class weights need "
            "images of each class."
        )
    weights = compute_class_weight("balanced", classes=np.arange(len(names)), y=labels)
    return weights.tolist()
