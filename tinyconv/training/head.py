"""The trained model that a run starts from, with a head for the classes of the data."""

import keras

from tinyconv.errors import InputError
from tinyconv.graph import Graph, source
from tinyconv.trained import Trained


def with_head(trained: Trained, names: tuple[str, ...], file: str) -> keras.Model:
    """A trained model with a head for the classes `names`.

    The head is kept if the report beside `file` names the same classes. Otherwise a Dense layer at
    the end is replaced by a new head, which starts at zero. A softmax is left out.

    Raises:
        InputError: the model does not end in a Dense layer and has another number of classes.
    """
    model = trained.model
    if trained.probabilities:
        model = _without_softmax(model, file)
        print(f"{file}: its softmax is left out, for a model is trained on its logits")
    call = source(model.output)  # of a layer that may be called elsewhere, too
    last = call.operation
    if trained.class_names == names:
        return model
    if not isinstance(last, keras.layers.Dense):
        if model.output_shape[-1] == len(names):
            print(f"{file}: its head is kept, for it ends in {type(last).__name__}, not in Dense")
            return model
        raise InputError(
            f"{file} tells {model.output_shape[-1]} classes apart, not {len(names)}, and ends in "
            f"{type(last).__name__}; only a Dense layer is replaced by a new head."
        )
    why = "it knows others" if trained.class_names else "nothing says what its own are"
    print(f"{file}: a new head for these {len(names)} classes, for {why}")
    # A random head would give large wrong answers, whose gradients undo the layers below.
    head = keras.layers.Dense(
        len(names), kernel_initializer="zeros", dtype="float32", name="head_dense"
    )
    return keras.Model(model.inputs[0], head(call.input_tensors[0]), name=model.name)


def _without_softmax(model: keras.Model, file: str) -> keras.Model:
    """`model`, which puts out probabilities, up to its logits and with the same weights."""
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
