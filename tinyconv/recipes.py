"""How nets are trained: every recipe, with its source and what it is known to reach."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyconv.errors import unknown
from tinyconv.registry import Net

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is not the net or the data.

    The learning rate is constant, or, with `final_learning_rate`, climbs linearly from zero over
    the share `warmup` of all steps and falls to it along a cosine.
    `augment` names entries of `tinyconv.augment.AUGMENTATIONS`; they are applied if
    `always_augment`, or when asked for.
    """

    name: str
    source: str
    expected: str
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    augment: tuple[str, ...]
    always_augment: bool
    final_learning_rate: float | None = None
    warmup: float = 0.0
    weight_decay: float = 0.0
    drop_remainder: bool = False


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="cifar10_tiny",
            source="https://github.com/soyflourbread/cifar10-tiny",
            expected="CIFAR-10 test accuracy 77.97% at epoch 10, 84.84% at 50, 86.47% at 100",
            epochs=10,
            batch_size=32,
            optimizer="adam",
            learning_rate=0.002,
            augment=("flip", "translate"),
            always_augment=False,
        ),
        Recipe(
            name="digits",
            source="tinyconv",
            expected="",
            epochs=20,
            batch_size=8,
            optimizer="adamw",
            learning_rate=0.006,
            final_learning_rate=0.0,
            warmup=0.1,
            weight_decay=0.01,
            augment=("translate",),
            always_augment=True,
        ),
    )
}


def find(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: there is no such recipe; the sentence names the nearest.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def default(net: Net, data: str) -> Recipe:
    """The recipe that `net` is trained by on `data` unless another is named."""
    return find("digits" if data == "digits" else net.recipe)


def optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
    """The recipe's optimizer for a training of `steps` steps in all."""
    import keras

    rate = recipe.learning_rate
    if recipe.final_learning_rate is not None:
        warmup_steps = round(recipe.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=steps - warmup_steps,
            alpha=recipe.final_learning_rate / recipe.learning_rate,
        )
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
