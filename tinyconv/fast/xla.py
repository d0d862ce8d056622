"""Which nets XLA trains faster than TensorFlow's own kernels, on a CPU."""

import keras
from keras.layers import Layer


def suits(model: keras.Model) -> bool:
    """Whether XLA trains a model faster than TensorFlow does.

    It does so for transformers, whose dense layers, softmax and layer norms XLA fuses. XLA is slow
    at convolutions and poolings whose windows overlap.

    Args:
        model: a functional model. The answer is False if a layer is not one of Keras' layers.
    """
    layers = [layer for layer in model.layers if isinstance(layer, Layer)]
    return keras.backend.backend() == "tensorflow" and all(
        type(layer).__module__.startswith("keras.") and layer.supports_jit and not _overlaps(layer)
        for layer in layers
    )


def _overlaps(layer: Layer) -> bool:
    """Whether a layer has windows that overlap."""
    window = getattr(layer, "kernel_size", getattr(layer, "pool_size", None)) or ()
    strides = getattr(layer, "strides", ())
    return isinstance(layer, keras.Model) or any(
        size > step for size, step in zip(window, strides, strict=True)
    )
