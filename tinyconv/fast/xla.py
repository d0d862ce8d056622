"""Which nets XLA trains faster than TensorFlow's own kernels, on a CPU."""

from typing import Any

import keras
from keras import layers

from tinyconv.graph import Graph

LAYERS = (
    *(layers.InputLayer, layers.Rescaling, layers.Reshape, layers.Flatten, layers.Concatenate),
    *(layers.Dense, layers.EinsumDense, layers.Activation, layers.Softmax, layers.Dropout),
    *(layers.LayerNormalization, layers.Add, layers.GlobalAveragePooling1D),
)
CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv1D)
OPERATIONS = {"Einsum", "Split", "Unstack", "GetItem", "OnesLike"}  # of keras.ops
NEEDED = {layers.Softmax, layers.LayerNormalization}


def suits(model: keras.Model) -> bool:
    """Whether XLA trains a model faster than TensorFlow does.

    XLA fuses the dense layers, softmaxes and layer norms of a transformer. XLA is slow at
    convolutions whose windows overlap, and cannot compile some other layers.

    Args:
        model: a functional model.

    Returns:
        Whether `model` has the layers and operations of a ViT in float32, and no others.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    operations = [node.operation for node in Graph(model).nodes]
    return {*map(type, operations)} >= NEEDED and all(map(_is_of_a_vit, operations))


def _is_of_a_vit(operation: Any) -> bool:
    kind = type(operation)
    if not isinstance(operation, keras.layers.Layer):
        return kind.__module__.startswith("keras.") and kind.__name__ in OPERATIONS
    if operation.dtype_policy.name != "float32":
        return False
    if kind in CONVOLUTIONS:
        return tuple(operation.kernel_size) == tuple(operation.strides)
    return kind in LAYERS
