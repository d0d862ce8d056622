"""The head of a trained model that a run starts from."""

import keras

from tinyconv.errors import InputError
from tinyconv.graph import Graph, source
from tinyconv.trained import Trained


def with_head(trained: Trained, names: tuple[str, ...], file: str) -> keras.Model:
    """Give a trained model a head for the classes `names`.

    The head is kept if the report beside the model names the same classes, or if the model does not
    end in a Dense layer and has the same number of classes. Otherwise a new head with zeros
    replaces the Dense layer at the end. A softmax is removed.

    Args:
        trained: the trained model.
        names: the classes of the data.
        file: the file of the model, for messages.

    Returns:
        A model from images to the logits of `names`.

    Raises:
        InputError: the model has another number of classes and does not end in a Dense layer, or
            its softmax cannot be removed.
    """
    model = trained.model
    if trained.probabilities:
        model = _without_softmax(model, file)
        print(f"{file}: its softmax is left out, because a model is trained on its logits")
    call = source(model.output)  # its layer may have other calls
    last = call.operation
    if trained.class_names == names:
        return model
    if not isinstance(last, keras.layers.Dense):
        if model.output_shape[-1] == len(names):
            print(f"{file}: the head ends in {type(last).__name__}, not in Dense, and is kept")
            return model
        raise InputError(
            f"{file} tells {model.output_shape[-1]} classes apart, not {len(names)}, and ends in "
            f"{type(last).__name__}; only a Dense layer is replaced by a new head."
        )
    why = "the model has other classes" if trained.class_names else "no report names its classes"
    print(f"{file}: a new head for these {len(names)} classes, because {why}")
    # The gradients of a random head would be large and would undo the training of the layers below.
    head = keras.layers.Dense(
        len(names), kernel_initializer="zeros", dtype="float32", name="head_dense"
    )
    return keras.Model(model.inputs[0], head(call.input_tensors[0]), name=model.name)


def _without_softmax(model: keras.Model, file: str) -> keras.Model:
    """Remove the softmax at the end of `model`. The weights are the same."""
    call = source(model.output)
    last = call.operation
    is_softmax = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Dense):
        if is_softmax and Graph(model).calls[last] == 1:
            logits = keras.layers.Dense.from_config(last.get_config() | {"activation": None})
            changed = keras.Model(model.input, logits(call.input_tensors[0]), name=model.name)
            logits.set_weights(last.get_weights())
            return changed
    elif is_softmax or type(last).__name__ == "Softmax":  # a layer or an operation
        below = call.input_tensors[0]
        if isinstance(source(below).operation, keras.layers.Dense):
            return keras.Model(model.input, below, name=model.name)
    raise InputError(
        f"{file} puts out probabilities, and training needs logits; only a softmax in or right "
        "after a Dense layer at the end, called once, is left out, and the model ends in "
        f"{type(last).__name__}."
    )
