"""The settings of a run."""

from dataclasses import dataclass, replace
from pathlib import Path

from tinyconv import registry
from tinyconv.devices import Devices
from tinyconv.errors import InputError, unknown
from tinyconv.recipe import Recipe
from tinyconv.training import data_path

BALANCED = "balanced"
LAST, BEST = "last", "best"  # the epochs that a run can keep


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of a run. Equal settings on the same machine give equal results.

    Args:
        model: a net by name, or a trained model to start from: a `.keras` file, or weights as
            NET.TAG. A trained model gets a new head unless it is known to have the classes of the
            data.
        data: as for `tinyconv.data.load`.
        recipe: the recipe.
        epochs: the number of epochs.
        batch_size: images per step.
        augment: whether to augment the training images as in the recipe.
        seed: the seed of the weights, the order of images, dropout and augmentation.
        holdout: the number of training images that are set aside for validation.
        mixed: whether to train in mixed precision.
        tpu: as for `tinyconv.devices.Devices`.
        freeze: whether to train only the head. `model` must be a trained model.
        devices: as `limit` for `tinyconv.devices.Devices`.
        fast: whether to use `tinyconv.fast` on a CPU: fused blocks with TensorFlow in float32,
            shifted convolutions with JAX.
        data_range: as for `tinyconv.data.load`.
        teacher: a trained model whose outputs the net learns, as for
            `tinyconv.trained.open_model`. Default: the net learns the labels alone.
        class_weights: "balanced" for weights of the classes in the loss that are inverse to their
            numbers of training images. Default: all classes have the same weight.
        early_stop: stop after this number of epochs without a better epoch. Default: train all
            epochs.
        keep: "last" or "best": the model of the last epoch, or of the epoch with the highest
            validation accuracy. Among equal accuracies, the lowest loss is the best.
        tensorboard: whether to write the metrics for TensorBoard, too.
        calibrate: whether to divide the logits by the temperature that fits the held-out images
            best, in the head of the saved model.

    Raises:
        InputError: a value is out of its range, or the net does not exist.
    """

    model: str
    data: str
    recipe: Recipe
    epochs: int
    batch_size: int
    augment: bool
    seed: int = 0
    holdout: int = 0
    mixed: bool = False
    tpu: str | None = None
    freeze: bool = False
    devices: int | None = None
    fast: bool = True
    data_range: tuple[float, float] | None = None
    teacher: str | None = None
    class_weights: str | None = None
    early_stop: int | None = None
    keep: str = LAST
    tensorboard: bool = False
    calibrate: bool = False

    def __post_init__(self) -> None:
        if not self.model.endswith(".keras"):
            registry.get(self.model)
        if self.freeze and not self.starts_trained:
            raise InputError("--freeze needs a trained model: --model FILE.keras or NET.TAG.")
        if self.class_weights not in (None, BALANCED):
            raise unknown("class weights", self.class_weights, [BALANCED])
        if self.keep not in (LAST, BEST):
            raise unknown("epoch to keep", self.keep, [LAST, BEST])
        counts = {"number of epochs": self.epochs, "batch size": self.batch_size}
        if self.early_stop is not None:
            counts["patience of --early-stop"] = self.early_stop
        for name, value in (counts | {"seed": self.seed}).items():
            if not isinstance(value, int):
                raise InputError(f"The {name} is {value!r}; it must be a whole number.")
        for name, value in counts.items():
            if not 1 <= value <= 1_000_000:
                raise InputError(f"The {name} is {value}; it must be 1 to 1,000,000.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"The seed is {self.seed}; it must be in 0..{2**31 - 1}.")

    @property
    def starts_trained(self) -> bool:
        """Whether `model` is a trained model, not a net by name."""
        return self.model.endswith(".keras") or registry.is_pretrained(self.model)

    def with_absolute_paths(self) -> "Run":
        """This run, with the absolute paths of its files and folders."""

        def absolute(model: str) -> str:
            return str(Path(model).absolute()) if model.endswith(".keras") else model

        return replace(
            self,
            model=absolute(self.model),
            data=data_path.absolute(self.data),
            teacher=self.teacher and absolute(self.teacher),
        )

    @property
    def soft_labels(self) -> bool:
        """Whether labels are shares of the classes, because mixup or cutmix is applied."""
        return self.augment and (self.recipe.mixup > 0 or self.recipe.cutmix > 0)

    def drops_remainder(self, devices: Devices) -> bool:
        """Whether a last partial batch is left out."""
        return self.recipe.drop_remainder or devices.kind == "tpu" or devices.count > 1
