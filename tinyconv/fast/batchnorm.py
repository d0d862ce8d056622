"""Batch norm by one fused operation of TensorFlow. Keras uses a dozen operations."""

from typing import Any

import keras

from tinyconv.graph import part


class OneBatchNorm(keras.layers.Layer):
    """Replaces a Keras batch norm over the channels of images, and uses its variables."""

    patterns = ({"norm": part(keras.layers.BatchNormalization, free="momentum epsilon dtype")},)

    def __init__(self, stock: keras.layers.BatchNormalization):
        super().__init__(name=f"{stock.name}_fused", dtype=stock.dtype_policy)
        self.stock = stock
        self.built = True

    @staticmethod
    def fits(layer: keras.layers.Layer, shape: tuple) -> bool:
        return len(shape) == 3 and layer.dtype_policy.name in ("float32", "mixed_bfloat16")

    def call(self, x: Any, training: bool = False) -> Any:
        import tensorflow as tf

        stock = self.stock
        gamma, beta, mean, variance = (
            tf.convert_to_tensor(weight)
            for weight in (stock.gamma, stock.beta, stock.moving_mean, stock.moving_variance)
        )
        train = bool(training and stock.trainable)
        y, now, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=stock.epsilon,
            is_training=train,
        )
        if train:
            pixels = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), gamma.dtype)
            biased = unbiased * (1 - 1 / pixels)  # Keras averages the biased variance
            keep = stock.momentum
            stock.moving_mean.assign(mean * keep + now * (1 - keep))
            stock.moving_variance.assign(variance * keep + biased * (1 - keep))
        return y

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape
