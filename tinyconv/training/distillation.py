"""Distillation: a net learns the outputs of a trained model, its teacher.

Source: Hinton, Vinyals and Dean, https://arxiv.org/abs/1503.02531. The teacher is a part of the
model that trains. It therefore sees the augmented image that the net sees, in the same step.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.fast.twin import twin
from tinyconv.recipe import Recipe
from tinyconv.trained import Trained, open_model, origin
from tinyconv.training.losses import WeightedLoss


@dataclass(frozen=True)
class Teacher:
    """A trained model that a net learns from.

    Args:
        trained: the model.
        order: the index of the output of each class of the data.
        origin: the file of the model, its sha256, and the run that made it.
    """

    trained: Trained
    order: tuple[int, ...]
    origin: dict[str, Any]


def open_teacher(name: str, classes: tuple[str, ...]) -> Teacher:
    """Open the teacher of a run.

    Args:
        name: as for `tinyconv.trained.open_model`.
        classes: the names of the classes of the data.

    Raises:
        InputError: the model does not exist, cannot be opened, or has other classes.
    """
    trained = open_model(name)
    outputs, names = trained.model.output_shape[-1], trained.class_names
    if names is not None and set(names) != set(classes):
        foreign = sorted({*names} ^ {*classes})
        raise InputError(
            f"The teacher {name} has other classes than the data (the class {foreign[0]} is in one "
            "of the two only); give a teacher that was trained on these classes."
        )
    if outputs != len(classes):
        raise InputError(
            f"The teacher {name} has {outputs} classes, but the data have {len(classes)}; give a "
            "teacher that was trained on these classes."
        )
    if names is None:
        print(f"{name}: no report names the classes of the teacher; they are taken in order")
    order = tuple(names.index(label) for label in classes) if names else tuple(range(outputs))
    return Teacher(trained, order, origin(name))


def with_teacher(
    student: keras.Model, teacher: Teacher, devices: Devices, *, mixed: bool, fast: bool
) -> keras.Model:
    """A model from images to the logits of a student and of its teacher, (B, 2, classes).

    Only the student is trained. Images are resized if the teacher needs another size.

    Args:
        student: a functional model from images to logits.
        teacher: the teacher.
        devices: the devices of the training. This function must be called in their scope.
        mixed: whether the teacher computes in mixed precision.
        fast: whether fused blocks compute the teacher.
    """
    model = devices.clone(teacher.trained.model, mixed, fast)
    logits = _Logits(twin(model, training=False, mixed=mixed) if fast else model, teacher)
    both = ops.stack([student.outputs[0], logits(student.inputs[0])], axis=1)
    return keras.Model(student.inputs[0], both, name=student.name)


class _Logits(keras.layers.Layer):
    """The logits of a teacher for images of any size.

    This layer has no argument `training`: a functional model passes its own `training` to a model
    inside it, also where that was called with `training=False`.
    """

    def __init__(self, model: keras.Model, teacher: Teacher):
        super().__init__(trainable=False, dtype="float32")
        self.model, self.order = model, teacher.order
        self.probabilities = teacher.trained.probabilities
        self.size = model.input_shape[1:3]
        self.model.trainable = False
        self.built = True

    def call(self, images: Any) -> Any:
        images = ops.cast(images, "float32")
        if images.shape[1:3] != self.size:
            images = ops.image.resize(
                images, self.size, antialias=True, data_format="channels_last"
            )
        outputs = ops.cast(self.model(images, training=False), "float32")
        if self.probabilities:
            outputs = ops.log(ops.maximum(outputs, keras.config.epsilon()))
        return ops.stop_gradient(ops.take(outputs, self.order, axis=-1))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], len(self.order))


def compile_options(
    options: dict[str, Any], recipe: Recipe, *, soft_labels: bool
) -> dict[str, Any]:
    """The arguments of `compile` for a student with its teacher.

    Args:
        options: the arguments for the student alone.
        recipe: the recipe.
        soft_labels: whether labels are shares of classes (B, classes) rather than indices (B,).
    """
    kind = "categorical" if soft_labels else "sparse_categorical"
    accuracy = getattr(keras.metrics, f"{kind}_accuracy")

    def student_accuracy(labels: Any, outputs: Any) -> Any:
        return accuracy(labels, outputs[:, 0])

    return options | {
        "loss": Distillation(options["loss"], recipe.teacher_weight, recipe.temperature),
        "metrics": [keras.metrics.MeanMetricWrapper(student_accuracy, name="accuracy")],
    }


class Distillation(keras.losses.Loss):
    """The weighted mean of the loss of the labels and the distance from the teacher.

    The distance is the Kullback-Leibler divergence of the student's probabilities from those of
    the teacher, both at a temperature. Its product with the square of the temperature has gradients
    of a size that does not depend on the temperature. Class weights are weights of both parts.

    Args:
        loss: the loss of labels and the student's logits.
        weight: the share of the distance in the loss, 0 to 1.
        temperature: the number by which the logits are divided before the softmax.
    """

    def __init__(self, loss: keras.losses.Loss, weight: float, temperature: float):
        super().__init__(name="distillation")
        self.loss, self.weight, self.temperature = loss, weight, temperature

    def call(self, labels: Any, outputs: Any) -> Any:
        student, teacher = (
            ops.log_softmax(outputs[:, index] / self.temperature) for index in range(2)
        )
        distance = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        from_teacher = self.temperature**2 * distance
        if isinstance(self.loss, WeightedLoss):
            from_teacher *= ops.sum(self.loss.weighted_labels(labels), axis=-1)
        from_labels = self.loss.call(labels, outputs[:, 0])
        return self.weight * from_teacher + (1 - self.weight) * from_labels
