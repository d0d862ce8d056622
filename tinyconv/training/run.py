"""What makes a training."""

from dataclasses import dataclass

from tinyconv import registry
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Run:
    """What makes one training: the same `Run` on the same machine gives the same figures.

    Args:
        model: a net by name, or a `.keras` file to start from. The head is a new one unless the
            report beside the file names the classes of the data.
        data: as for `tinyconv.data.load`; so is `data_range`.
        recipe: how the net is trained.
        epochs: how often every training image is seen.
        batch_size: images per step.
        augment: whether the training images are augmented as the recipe says.
        seed: of the weights, the order of images, dropout and augmentation.
        holdout: how many training images are set aside for validation.
        mixed: train in mixed precision.
        tpu: as for `tinyconv.devices.Devices`; so is `devices`.
        freeze: train the head of the file alone.
        fast: on a CPU, train by what `tinyconv.fast` has: fused blocks by TensorFlow in float32,
            shifted convolutions by JAX.

    Raises:
        InputError: a value is out of its range, or there is no such net.
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

    def __post_init__(self) -> None:
        if not self.model.endswith(".keras"):
            registry.get(self.model)
            if self.freeze:
                raise InputError("--freeze needs a trained model: --model FILE.keras.")
        counts = {"number of epochs": self.epochs, "batch size": self.batch_size}
        for name, value in (counts | {"seed": self.seed}).items():
            if not isinstance(value, int):
                raise InputError(f"The {name} is {value!r}; it must be a whole number.")
        for name, value in counts.items():
            if not 1 <= value <= 1_000_000:
                raise InputError(f"The {name} is {value}; it must be 1 to 1,000,000.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"The seed is {self.seed}; it must be in 0..{2**31 - 1}.")

    @property
    def mixup(self) -> bool:
        """Whether images and labels are mixed: labels are then shares of classes."""
        return self.augment and bool(self.recipe.augment) and self.recipe.mixup > 0

    def drops_remainder(self, devices: Devices) -> bool:
        """Whether a last batch of fewer images is left out."""
        return self.recipe.drop_remainder or devices.kind == "tpu" or devices.count > 1
