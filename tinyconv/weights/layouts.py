"""The layouts of kernels, the names of weights and the 16-bit numbers of PyTorch."""

from collections.abc import Callable

import numpy as np

# Layout -> two functions: from a Keras array to PyTorch, and from a PyTorch array and the Keras
# shape to Keras.
LAYOUTS: dict[str, tuple[Callable, Callable]] = {
    # (height, width, in, out) <-> (out, in, height, width); in is per group
    "conv": (lambda k: k.transpose(3, 2, 0, 1), lambda t, _: t.transpose(2, 3, 1, 0)),
    # (height, width, in, multiplier) <-> (in * multiplier, 1, height, width)
    "depthwise": (
        lambda k: k.transpose(2, 3, 0, 1).reshape(-1, 1, *k.shape[:2]),
        lambda t, shape: t.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1),
    ),
    # (in, out) <-> (out, in)
    "dense": (lambda k: k.T, lambda t, _: t.T),
    # (in, out) <-> (out, in, 1, 1)
    "pointwise": (lambda k: k.T[:, :, None, None], lambda t, _: t[:, :, 0, 0].T),
    # (1, 1, channels, 1) <-> (1, channels, 1, 1), one factor per channel
    "scale": (lambda k: k.transpose(0, 2, 1, 3), lambda t, _: t.transpose(0, 2, 1, 3)),
    # (1, 1, channels, 1) or (1, channels, 1) <-> (channels,), one factor per channel
    "factor": (lambda k: k.reshape(-1), lambda t, shape: t.reshape(shape)),
    "affine": (lambda k: k.reshape(-1), lambda t, shape: t.reshape(shape)),
    # (channels,) <-> (channels, 1, 1, 1)
    "gain": (lambda k: k[:, None, None, None], lambda t, _: t[:, 0, 0, 0]),
    # the same in Keras and PyTorch: (channels,) for a norm, (1, tokens, channels) for the others
    "norm": (lambda k: k, lambda t, _: t),
    "token": (lambda k: k, lambda t, _: t),
    "position": (lambda k: k, lambda t, _: t),
}
WHOLE = (
    "scale",
    "factor",
    "token",
    "position",
)  # the PyTorch name is that of a tensor, not of a layer
SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "gain": "gain",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # an entry of a batch norm that Keras does not use


def widen(bits: np.ndarray) -> np.ndarray:
    """Numbers in bfloat16, which NumPy does not have, from uint16 to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
