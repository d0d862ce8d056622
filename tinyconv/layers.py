"""Custom layers for what stock Keras cannot express.

Import this module before `keras.models.load_model`: the import registers the layers with Keras.
"""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tinyconv")
class StandardizedConv2D(keras.layers.Conv2D):
    """A 2D convolution with scaled weight standardization.

    The kernel of the convolution is
    `scale * gain * (kernel - mean) / sqrt(variance + epsilon) / sqrt(fan_in)`, with the mean and
    the variance of the `fan_in` weights of each filter. The scale of the activations then stays
    constant without normalization layers. Paper: https://arxiv.org/abs/2101.08692. The order of
    operations is that of timm.

    Input and output have the shapes of `keras.layers.Conv2D`. The weights are `kernel`, `bias` and
    `gain`, which has the shape (filters,).

    Args:
        *args, **kwargs: as for `keras.layers.Conv2D`.
        scale: a constant factor that compensates the non-linearity before the convolution.
        epsilon: a small number that is added to the variance.
        gain_initializer: the initializer of the gain.
    """

    def __init__(
        self,
        *args: Any,
        scale: float = 1.0,
        epsilon: float = 1e-5,
        gain_initializer: Any = "ones",
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.scale, self.epsilon = scale, epsilon
        self.gain_initializer = keras.initializers.get(gain_initializer)

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.gain = self.add_weight(
            name="gain", shape=(self.filters,), initializer=self.gain_initializer
        )

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        precise = keras.backend.result_type(kernel.dtype, "float32")
        kernel, gain = ops.cast(kernel, precise), ops.cast(self.gain, precise)
        mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
        fan_in = math.prod(kernel.shape[:-1])
        factor = self.scale * gain * ops.rsqrt((variance + self.epsilon) * fan_in)
        kernel = ops.cast((kernel - mean) * factor, self.compute_dtype)
        return super().convolution_op(inputs, kernel)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["gain"] = self.gain

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self.gain.assign(store["gain"])

    def get_config(self) -> dict[str, Any]:
        gain = keras.initializers.serialize(self.gain_initializer)
        own = {"scale": self.scale, "epsilon": self.epsilon, "gain_initializer": gain}
        return super().get_config() | own
