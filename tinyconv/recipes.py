"""Training recipes: the settings of a training, with their source and the expected accuracy."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tinyconv import registry
from tinyconv.errors import InputError, unknown

OPTIMIZERS = ("adam", "adamw", "muon", "muon_conv", "sgd")
Rule = tuple[Callable[[float], bool], str]
COUNT: Rule = (lambda x: 1 <= x < math.inf and x == int(x), "a whole number above 0")
POSITIVE: Rule = (lambda x: 0 < x < math.inf, "above 0")
NOT_NEGATIVE: Rule = (lambda x: 0 <= x < math.inf, "0 or more")
SHARE: Rule = (lambda x: 0 <= x <= 1, "0 to 1")
BELOW_ONE: Rule = (lambda x: 0 <= x < 1, "0 or more and below 1")
RULES = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": POSITIVE,
    "initial_learning_rate": NOT_NEGATIVE,
    "final_learning_rate": NOT_NEGATIVE,
    "warmup": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "ema": BELOW_ONE,
    "mixup": SHARE,
    "dropout": BELOW_ONE,
    "teacher_weight": SHARE,
    "temperature": POSITIVE,
}
OPTIONAL = ("final_learning_rate", "ema", "dropout")


@dataclass(frozen=True)
class Recipe:
    """The settings of a training, apart from the net and the data.

    Args:
        name: the name of the recipe.
        source: where the recipe is from.
        expected: the accuracy that the recipe is known to reach.
        epochs: the default number of epochs.
        batch_size: the default number of images per step.
        optimizer: "adam", "adamw", "sgd" with Nesterov momentum 0.9 and weight decay in the
            gradient, or "muon" with AdamW for the head and all weights but dense kernels.
            "muon_conv" is "muon" for the kernels of convolutions, too.
        learning_rate: the constant or the largest learning rate.
        augment: names in `tinyconv.augment.AUGMENTATIONS`, in the order of their application.
        always_augment: whether training images are augmented by default.
        initial_learning_rate: the learning rate at the start of the warmup.
        final_learning_rate: the learning rate at the end of a cosine decay. Default: the learning
            rate is constant, without warmup.
        warmup: the share of all steps with a linear warmup.
        weight_decay: the weight decay.
        ema: the momentum of the exponential moving average of the weights. Default: no average.
        mixup: the largest share of the other image in mixup, a part of the augmentation.
        dropout: the rate of the net's dropout layers. Default: as in the net.
        drop_remainder: whether a last partial batch is left out.
        teacher_weight: the share of the teacher in the loss, if the run has a teacher.
        temperature: the temperature of the softmax of the teacher and of the net in that share.

    Raises:
        InputError: the optimizer is unknown, or a number is out of its range.
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
    initial_learning_rate: float = 0.0
    final_learning_rate: float | None = None
    warmup: float = 0.0
    weight_decay: float = 0.0
    ema: float | None = None
    mixup: float = 0.0
    dropout: float | None = None
    drop_remainder: bool = False
    teacher_weight: float = 0.7
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name, (allowed, words) in RULES.items():
            value = getattr(self, name)
            if not (value is None and name in OPTIONAL) and not allowed(value):
                raise InputError(
                    f"The {name} of recipe {self.name!r} is {value}; it must be {words}."
                )


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
            name="muon",
            source="tinyconv, docs/recipes.md",
            expected="CIFAR-10 test accuracy after 15 epochs: cifar10_tiny 87.52%, "
            "cifar10_tiny_half 81.37% (seed 0)",
            epochs=15,
            batch_size=32,
            optimizer="muon",
            learning_rate=0.006,
            final_learning_rate=0.0,
            warmup=0.05,
            weight_decay=0.05,
            dropout=0.0,
            augment=("crop", "flip"),
            always_augment=True,
        ),
        Recipe(
            name="muon_again",
            source="tinyconv, docs/recipes.md",
            expected="CIFAR-10 test accuracy 90.11% after 36 epochs from a cifar10_tiny of 89.77% "
            "(seed 0)",
            epochs=36,
            batch_size=32,
            optimizer="muon",
            learning_rate=0.001,
            final_learning_rate=0.0,
            warmup=0.02,
            weight_decay=0.05,
            dropout=0.0,
            augment=("crop", "flip"),
            always_augment=True,
        ),
        Recipe(
            name="tiniest",
            source="https://github.com/xvel/cifar10-tiniest",
            expected="CIFAR-10 test accuracy 94.4% after 200 epochs (mean of 5), 94.6% after 300",
            epochs=200,
            batch_size=256,
            optimizer="adamw",
            learning_rate=0.02,
            initial_learning_rate=0.0008,
            final_learning_rate=0.002,
            warmup=0.01,
            weight_decay=0.01,
            ema=0.999,
            augment=("flip", "shift", "rotate", "sharpen", "color"),
            mixup=0.5,
            always_augment=True,
            drop_remainder=True,
        ),
        Recipe(
            name="tiniest_muon",
            source="tinyconv, docs/recipes.md",
            expected="CIFAR-10 test accuracy of tiniest 93.64%",
            epochs=75,
            batch_size=32,
            optimizer="muon",
            learning_rate=0.004,
            final_learning_rate=0.0,
            warmup=0.02,
            weight_decay=0.05,
            dropout=0.0,
            augment=("flip", "shift", "rotate", "sharpen", "color"),
            mixup=0.2,
            always_augment=True,
        ),
        Recipe(
            name="resnet",
            source="https://github.com/chenyaofo/CIFAR-pretrained-models",
            expected="CIFAR-10 test accuracy of resnet20/32/44/56 91.65 / 92.81 / 93.24 / 93.69%, "
            "CIFAR-100 66.61 / 68.74 / 69.49 / 70.79%",
            epochs=200,
            batch_size=256,
            optimizer="sgd",
            learning_rate=0.1,
            final_learning_rate=0.001,
            weight_decay=1e-4,
            augment=("crop", "flip"),
            always_augment=True,
        ),
        Recipe(
            name="resnet_muon",
            source="tinyconv, docs/recipes.md",
            expected="CIFAR-10 test accuracy of resnet20 after 100 epochs: 92.13% (seed 0)",
            epochs=60,
            batch_size=128,
            optimizer="muon_conv",
            learning_rate=0.006,
            final_learning_rate=0.0,
            warmup=0.05,
            weight_decay=0.05,
            augment=("crop", "flip"),
            always_augment=True,
        ),
        Recipe(
            name="timm",
            source="tinyconv; timm's own recipe is for ImageNet",
            expected="not measured yet",
            epochs=100,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.002,
            final_learning_rate=0.0,
            warmup=0.05,
            weight_decay=0.05,
            augment=("crop", "flip"),
            always_augment=True,
        ),
        Recipe(
            name="digits",
            source="tinyconv",
            expected="digits test accuracy 94.10% after 10 epochs, 98.00% after 20 (seed 0)",
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
        Recipe(
            name="finetune",
            source="tinyconv",
            expected="digits test accuracy after 3 epochs from models that ship: resnet20 98.78%, "
            "cifar10_tiny 97.44%, cifar10_tiny_half 96.00%, tiniest 95.22% (seed 0)",
            epochs=5,
            batch_size=16,
            optimizer="adamw",
            learning_rate=0.002,
            final_learning_rate=0.0,
            warmup=0.1,
            weight_decay=0.01,
            dropout=0.0,
            augment=("translate",),
            always_augment=True,
        ),
    )
}


def get(name: str) -> Recipe:
    """Get a recipe by its name.

    Raises:
        InputError: no recipe has that name. The message suggests the most similar name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def default(model: str, data: str) -> Recipe:
    """The default recipe for `model` and `data`, as for `tinyconv.train`."""
    if model.endswith(".keras") or registry.is_pretrained(model):
        return get("finetune")
    net = registry.get(model)
    return get("digits" if data == "digits" else net.recipe)
