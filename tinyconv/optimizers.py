"""The optimizer of a recipe, with its learning-rate schedule."""

import math
from typing import Any

import keras
from keras import ops

from tinyconv.recipe import Recipe


def build(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe.

    Args:
        recipe: the recipe.
        steps: the number of steps of the whole training.
    """
    # A fixed name: the variables of a resumed run have the names of those in its checkpoint.
    options: dict[str, Any] = {"name": "optimizer"}
    if recipe.ema:
        options |= {"use_ema": True, "ema_momentum": recipe.ema}
    rate, decay = _learning_rate(recipe, steps), recipe.weight_decay
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **options)
    if recipe.optimizer == "sgd":
        return CoupledSGD(decay, rate, momentum=0.9, nesterov=True, **options)
    if recipe.optimizer in ("muon", "muon_conv"):
        kind = keras.optimizers.Muon if recipe.optimizer == "muon" else ConvMuon
        options |= {"weight_decay": decay, "adam_weight_decay": decay}
        return kind(rate, exclude_layers=["head_dense"], **options)
    return keras.optimizers.AdamW(rate, weight_decay=decay, **options)


def _learning_rate(recipe: Recipe, steps: int) -> Any:
    rate = recipe.learning_rate
    if recipe.final_learning_rate is None:
        return rate
    warmup_steps = round(recipe.warmup * steps)
    warmup = {"warmup_target": rate, "warmup_steps": warmup_steps} if warmup_steps else {}
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.initial_learning_rate if warmup else rate,
        decay_steps=max(1, steps - warmup_steps),
        alpha=recipe.final_learning_rate / recipe.learning_rate,
        **warmup,
    )


class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is a part of the gradient, and so goes through the momentum.

    PyTorch's SGD does the same. Keras' own weight decay is decoupled from the momentum.
    """

    def __init__(self, coupled_decay: float, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.coupled_decay = coupled_decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        gradient = gradient + self.coupled_decay * variable
        super().update_step(gradient, variable, learning_rate)


class ConvMuon(keras.optimizers.Muon):
    """Muon for dense kernels and for the kernels of ungrouped convolutions.

    A kernel (height, width, inputs, outputs) is updated as the matrix (height * width * inputs,
    outputs). Keras' Muon leaves every kernel of more than two axes to AdamW.
    Source: https://github.com/KellerJordan/cifar10-airbench (MIT), airbench94_muon.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        is_kernel = len(variable.shape) == 4 and variable.shape[-1] > 1
        if is_kernel and not any(name in variable.path for name in self.exclude_layers):
            return False
        return super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """Scale the update by the longer side of its matrix, as Keras' Muon does."""
        longer = max(math.prod(x.shape[:-1]), x.shape[-1])
        return x if self.rms_rate is None else x * longer**0.5 * self.rms_rate
