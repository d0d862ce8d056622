"""The models of a run, and their training."""

import math
import random
from typing import Any

import keras
import numpy as np

from tinyconv import calibration, optimizers, report, terminal
from tinyconv.augment import Augmentation
from tinyconv.data import Batches, Dataset, Split, feed
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.factory import create_model
from tinyconv.fast.twin import twin
from tinyconv.hosts import LOST
from tinyconv.machine import has_bfloat16
from tinyconv.mixing import CutMix, Mixup
from tinyconv.recipe import Recipe
from tinyconv.training import distillation, losses
from tinyconv.training.run import BEST, Run

KEPT = "best:"  # starts the names of the weights of the best epoch in a checkpoint
STALE = 0.01  # allowed share of the raw weights' statistics in the batch norms of averaged weights


def compile_options(
    recipe: Recipe,
    *,
    steps: int,
    soft_labels: bool,
    classes: int,
    class_weights: list[float] | None = None,
) -> dict[str, Any]:
    """The optimizer, loss and metrics of a recipe, as arguments of `keras.Model.compile`.

    Args:
        recipe: the recipe.
        steps: the number of steps of the whole training.
        soft_labels: whether labels are shares of classes (B, classes) rather than indices (B,).
        classes: the number of classes.
        class_weights: the weight of each class. Default: all classes have the weight 1.
    """
    kind = "Categorical" if soft_labels else "SparseCategorical"
    return {
        "optimizer": optimizers.build(recipe, steps),
        "loss": losses.build(
            recipe, soft_labels=soft_labels, classes=classes, class_weights=class_weights
        ),
        "metrics": [getattr(keras.metrics, f"{kind}Accuracy")(name="accuracy")],
    }


def augmentation(
    recipe: Recipe, *, seed: int, classes: int, epochs: int, steps_per_epoch: int
) -> Augmentation:
    """The augmentation of a recipe, with the mixup and the cutmix of the recipe.

    Args:
        recipe: the recipe.
        seed: the seed of all random numbers.
        classes: the number of classes.
        epochs: the number of epochs of the training.
        steps_per_epoch: the number of steps of an epoch.
    """
    mixup = Mixup(recipe.mixup, classes, epochs) if recipe.mixup > 0 else None
    cutmix = CutMix(recipe.cutmix, classes) if recipe.cutmix > 0 else None
    return Augmentation(recipe.augment, seed, mixup, steps_per_epoch, cutmix)


class Trainer:
    """The models of a run, and their training.

    Args:
        run: the settings of the run.
        net: the model to start from. Default: a new net.
        dataset: the images.
        devices: the devices of the training.
        teacher: the model that the net learns from, if there is one.

    Raises:
        InputError: the recipe has a dropout and the net has no dropout layer, a class without
            images has no balanced weight, or the net to be calibrated has no Dense layer at its
            end.

    Attributes:
        class_weights: the weight of each class in the loss, or None.
        best: the weights of the best epoch by name, if the run keeps them.
        net: the model that is validated and saved, in float32. Its weights are averaged if the
            recipe has an EMA.
        replica: a copy of `net` on the devices, with their precision.
        model: the compiled model that shares the weights of `replica`. It may be a fused twin. With
            a teacher, it also has the outputs of the teacher.
        validator: a model that shares the weights of `net`. It may be a fused twin.
    """

    def __init__(
        self,
        run: Run,
        net: keras.Model | None,
        dataset: Dataset,
        devices: Devices,
        teacher: distillation.Teacher | None = None,
    ):
        self.run, self.dataset, self.devices, self.teacher = run, dataset, devices, teacher
        drop_remainder = run.drops_remainder(devices)
        self.batches = Batches(dataset.train, run.batch_size, run.seed, drop_remainder)
        names = dataset.class_names
        self.class_weights = (
            losses.balanced(dataset.train.labels, names) if run.class_weights else None
        )
        self.best: dict[str, np.ndarray] = {}
        random.seed(run.seed)  # Keras' source of seeds for layers and initializers
        self.net = net or create_model(run.model, len(names), dataset.train.images.shape[1:])
        if run.calibrate and not calibration.head(self.net):
            raise InputError("--calibrate needs a net that ends in a Dense layer; leave it out.")
        if run.recipe.dropout is not None:
            self._set_dropout(run.recipe.dropout)
        steps = len(self.batches)
        with devices.scope():
            options = compile_options(
                run.recipe,
                steps=steps * run.epochs,
                soft_labels=run.soft_labels,
                classes=len(names),
                class_weights=self.class_weights,
            )
            if run.mixed and devices.kind == "cpu" and not has_bfloat16():
                terminal.note(
                    "--mixed trains more slowly than float32 here, because the processor has no "
                    "bfloat16 instructions."
                )
            fast = run.fast and devices.can_fuse
            self.replica = devices.clone(self.net, run.mixed, fast)
            for layer in self.replica.layers[:-1] if run.freeze else ():
                layer.trainable = False
            self.model = twin(self.replica, mixed=run.mixed) if fast else self.replica
            fused = self.model is not self.replica
            self.validator = twin(self.net) if fused else self.net
            if teacher:
                self.model = distillation.with_teacher(
                    self.model, teacher, devices, mixed=run.mixed, fast=fast
                )
                options = distillation.compile_options(
                    options, run.recipe, soft_labels=run.soft_labels
                )
            options["optimizer"] = devices.optimizer(options["optimizer"], run.mixed)
            self.model.compile(
                **options,
                jit_compile=devices.jit_compile(self.model, fast),
                steps_per_execution=devices.steps_per_execution(steps),
            )

    def _set_dropout(self, rate: float) -> None:
        layers = [layer for layer in self.net.layers if isinstance(layer, keras.layers.Dropout)]
        if rate and not layers:
            raise InputError(
                f"The dropout of the recipe is {rate}, but {self.net.name} has no dropout layer; "
                "leave out the dropout."
            )
        for layer in layers:
            layer.rate = rate

    def fit(self, initial_epoch: int, callbacks: list[keras.callbacks.Callback]) -> None:
        """Train to the last epoch of the run.

        Args:
            initial_epoch: the first epoch to train, counted from 0.
            callbacks: Keras callbacks.

        Raises:
            InputError: another host is lost.
        """
        run, several = self.run, self.devices.hosts > 1
        augment = None
        if run.augment and (run.recipe.augment or run.soft_labels):
            augment = augmentation(
                run.recipe,
                seed=run.seed,
                classes=len(self.dataset.class_names),
                epochs=run.epochs,
                steps_per_epoch=len(self.batches),
            )
        share = self.devices.share(run.batch_size) if several else None
        batches = feed(self.batches, augment, share)
        try:
            with self.devices.fit_scope():
                self.model.fit(
                    batches,
                    initial_epoch=initial_epoch,
                    epochs=run.epochs,
                    callbacks=callbacks,
                    shuffle=False,  # `Batches` shuffles
                    verbose=1 if terminal.bars() else 2,  # 2: one line per epoch
                )
        except (ValueError, RuntimeError) as error:
            if several and any(name in str(error) for name in ("Gloo", "NCCL")):
                raise InputError(LOST) from error
            raise

    def evaluate(self, split: Split, bar: bool = True) -> report.Evaluation:
        """Evaluate the net on every image of a split."""
        return report.evaluate(self.validator, split, max(256, self.run.batch_size), bar)

    def validate(self) -> dict[str, float]:
        """Update the net, and evaluate it on the validation images.

        Returns:
            `val_accuracy`, in 0..1, and `val_loss`.
        """
        self.update_net()
        found = self.evaluate(self.dataset.holdout or self.dataset.test, bar=False)
        return {"val_accuracy": found.accuracy, "val_loss": found.loss}

    def keep_best(self) -> None:
        """Keep the weights of the net as those of the best epoch."""
        weights = _named(self.net.weights)
        self.best = {name: keras.ops.convert_to_numpy(w) for name, w in weights.items()}

    def use_best(self) -> None:
        """Copy the weights of the best epoch to the net."""
        for name, weight in _named(self.net.weights).items():
            weight.assign(self.best[name])

    def update_net(self) -> None:
        """Copy the weights of the replica, or their average with an EMA, to the net."""
        weights = self.replica.get_weights()
        if not self.run.recipe.ema:
            self.net.set_weights(weights)
            return
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.net.set_weights(self.replica.get_weights())
        self.replica.set_weights(weights)
        norms = [x for x in self.net.layers if isinstance(x, keras.layers.BatchNormalization)]
        if norms and not self.run.freeze:
            # The moving statistics are those of the raw weights. Compute those of the average.
            renewals = math.log(STALE) / math.log(max(norm.momentum for norm in norms))
            for index in range(math.ceil(renewals)):
                self.net(self.batches[index % len(self.batches)][0], training=True)

    def calibrate(self) -> float | None:
        """Divide the logits of the net by the temperature that fits the held-out images best.

        Returns:
            The temperature. It is None if no temperature fits, because all answers are right.
        """
        held = self.dataset.holdout
        assert held
        found = self.evaluate(held, bar=False)
        temperature = calibration.temperature(found.logits, found.labels)
        if temperature is None:
            print(f"Not calibrated: the net has all {len(found.labels)} held-out images right.")
        else:
            calibration.divide_logits(self.net, temperature)
        return temperature

    def state(self) -> dict[str, np.ndarray]:
        """The variables for the checkpoint, by their paths.

        Random generators are not among them, because every epoch seeds them again.
        """
        state = {k: keras.ops.convert_to_numpy(v) for k, v in self._variables().items()}
        return state | {f"{KEPT}{path}": value for path, value in self.best.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restore the variables of a checkpoint.

        Raises:
            ValueError: `state` is that of another net or optimizer.
        """
        with self.devices.scope():
            self.model.optimizer.build(self.model.trainable_variables)
        variables = self._variables()
        kept = {key: state.pop(key) for key in list(state) if key.startswith(KEPT)}
        self.best = {key.removeprefix(KEPT): value for key, value in kept.items()}
        weights = _named(self.net.weights if self.run.keep == BEST else [])
        shapes = {name: weight.shape for name, weight in weights.items()}
        if {path: value.shape for path, value in self.best.items()} != shapes:
            raise ValueError("best weights of another net")
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in variables.items()}:
            raise ValueError("weights of another net or optimizer")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, keras.Variable]:
        return _named([*self.replica.weights, *self.model.optimizer.variables])


def _named(variables: list[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables by their paths. A number follows a path that several variables have."""
    named: dict[str, keras.Variable] = {}
    for variable in variables:
        name, count = variable.path, 2
        while name in named:
            name, count = f"{variable.path}:{count}", count + 1
        named[name] = variable
    return named
