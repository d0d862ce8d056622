"""Training recipes: the settings of a training, with their source and the expected accuracy."""

from tinyconv import registry
from tinyconv.errors import unknown
from tinyconv.recipe import Recipe

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
            expected="CIFAR-10 test accuracy of tiniest 93.64%, of cifar10_tiny with the teacher "
            "tiniest 91.35%",
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
