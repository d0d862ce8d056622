"""Augmentation by Keras' layers, as a pure function of the batch and a step number.

Keras' random layers keep the state of their generators in variables. `Augmentation` hands that
state in instead (`stateless_call`), made from the seed, the layer and the step: each image of a
batch and each epoch is drawn anew, a resumed run draws what it would have drawn, and the function
can run in a `tf.data` pipeline in parallel or be compiled by JAX.
"""

from typing import Any

import keras
import numpy as np

AUGMENTATIONS = {
    "flip": lambda: keras.layers.RandomFlip("horizontal", dtype="float32"),
    "translate": lambda: keras.layers.RandomTranslation(
        0.1, 0.1, fill_mode="nearest", dtype="float32"
    ),
}
DRAWS_PER_STEP = 1024  # more than any layer makes; a step's draws begin where no other's reach


class Augmentation:
    """The layers called `names`, one after the other.

    Called with a step number, images (B, H, W, 3) in 0..255 and labels, it returns the images in
    float32 and the labels.
    """

    def __init__(self, names: tuple[str, ...], seed: int):
        self.layers = [AUGMENTATIONS[name]() for name in names]
        for layer in self.layers:
            layer.build((None, None, None, 3))
        self.keys = np.random.SeedSequence(seed).generate_state(len(self.layers)) >> 1

    def __call__(self, step: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        images = keras.ops.cast(images, "float32")
        for layer, key in zip(self.layers, self.keys, strict=True):
            states = [
                keras.ops.stack(
                    [
                        keras.ops.cast(int(key) + i, state.dtype),
                        keras.ops.cast(step, state.dtype) * DRAWS_PER_STEP,
                    ]
                )
                for i, state in enumerate(layer.non_trainable_variables)
            ]
            images, _ = layer.stateless_call([], states, images, training=True)
        return images, labels
