"""The settings of a training, and the checks of them."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_origin

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
    "cutmix": SHARE,
    "label_smoothing": BELOW_ONE,
    "focal_gamma": NOT_NEGATIVE,
    "dropout": BELOW_ONE,
    "teacher_weight": SHARE,
    "temperature": POSITIVE,
}
OPTIONAL = ("final_learning_rate", "ema", "dropout")
KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of names",
}


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
        cutmix: the probability of cutmix for an image, a part of the augmentation. Images without
            cutmix may have mixup.
        label_smoothing: the share of each label that is spread over all classes.
        focal_gamma: the exponent of the focal loss. Default: the loss is the cross-entropy.
        dropout: the rate of the net's dropout layers. Default: as in the net.
        drop_remainder: whether a last partial batch is left out.
        teacher_weight: the share of the teacher in the loss, if the run has a teacher.
        temperature: the temperature of the softmax of the teacher and of the net in that share.

    Raises:
        InputError: the optimizer is unknown, a value has another type, or a number is out of its
            range.
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
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in FIELDS.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if not _is(value, kind):
                raise self._wrong(name, KINDS[kind])
            value = _number(value) if kind in (int, float) else value
            allowed, words = RULES.get(name, (None, ""))
            if allowed and not allowed(value):
                raise self._wrong(name, words)
            object.__setattr__(self, name, kind(value))
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)

    def _wrong(self, name: str, words: str) -> InputError:
        value = getattr(self, name)
        shown = repr(value) if isinstance(value, str) else value
        return InputError(f"The {name} of recipe {self.name!r} is {shown}; it must be {words}.")


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, tuple | list) and all(isinstance(x, str) for x in value)
    return isinstance(value, kind)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


# the name of each field of a recipe -> its type
FIELDS: dict[str, Any] = {x.name: get_origin(x.type) or x.type for x in fields(Recipe)}
FIELDS |= dict.fromkeys(OPTIONAL, float)
