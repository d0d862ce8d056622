"""Trained models for phones, browsers and C++: written, run, compared with Keras, or refused.

What is exported is a model of the same function in other layers, where exporters or the runtimes
do a layer badly:

- XNNPACK, which runs LiteRT on a CPU, has fast depthwise kernels for one output per channel alone.
  A depthwise convolution with m outputs per channel becomes one over m copies of its input; the
  channels come out in another order, and the layers up to the next Dense follow.
- LiteRT leaves XNNPACK for the mean of channels in 8 bits, and `tiniest` does not survive 8 bits
  that must hold its largest exponential. There a mean is a product with a matrix, and the exponent
  ends where the hyperbolic tangent that follows is one.
- ONNX gets exact GELU by erf, and a grouped convolution as one convolution per group: Keras 3.15
  writes files of both that ONNX Runtime refuses or answers wrongly.
"""

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tinyconv import atomic
from tinyconv.errors import InputError, unknown
from tinyconv.graph import Graph, part

CALIBRATION = 200  # images that show int8 the range of each activation
CALLS = 100  # with one image each, to time
EXPONENT = 2.5  # tanh(exp(2.5)) is one in float32
WIDENING = part(
    keras.layers.DepthwiseConv2D,
    free="kernel_size strides padding depth_multiplier dilation_rate activation use_bias",
    kernel_size=1,
)
ALIKE = (  # layers that treat every channel alike
    part(keras.layers.LayerNormalization, free="epsilon center scale"),
    part(keras.layers.Activation, free="activation", activation="linear"),
    part(keras.layers.Dropout, free="rate noise_shape", rate=0),
)
KNOWN = ("linear", "relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "elu", "exponential")
LAST = part(keras.layers.Dense, free="units activation use_bias", units=1)
Runtime = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, 3) in uint8 -> logits (N, classes)


@dataclass(frozen=True)
class Format:
    """A kind of file: the end of its name, how it is written and run, how near Keras it must be.

    `packages` are needed beside TensorFlow. `same` is the least share of images in the same class
    as by Keras; `difference` the largest difference of two logits, as a share of Keras' largest.
    """

    tail: str
    write: Callable[[keras.Model, Path, np.ndarray], None]
    load: Callable[[Path], Runtime]
    packages: tuple[str, ...] = ()
    same: float = 0.0
    difference: float = 1e-4


@dataclass(frozen=True)
class Check:
    """How a written file answers: logits (N, classes) beside those of Keras and the labels (N,).

    `labels` are None where the images have none; `latency` is in seconds for one image on one
    thread, the median of several calls; `size` is in bytes.
    """

    logits: np.ndarray
    keras: np.ndarray
    labels: np.ndarray | None
    latency: float
    size: int

    @property
    def same(self) -> float:
        """The share of images in the same class as by Keras."""
        return float((self.logits.argmax(-1) == self.keras.argmax(-1)).mean())

    @property
    def difference(self) -> float:
        """The largest difference of two logits, as a share of Keras' largest logit."""
        return float(np.abs(self.logits - self.keras).max() / np.abs(self.keras).max())

    def agrees(self, form: Format) -> bool:
        """Whether it is as near to Keras as `form` has to be; a NaN is not."""
        return self.same >= form.same and self.difference <= form.difference

    def text(self) -> str:
        """All of it for a terminal."""
        lines = [
            f"{self.size / 1000:,.0f} KB, {1000 * self.latency:.2f} ms an image on one thread",
            f"{self.same:.2%} of {len(self.logits):,} images in the same class as by Keras, "
            f"outputs within {self.difference:.1e} of the largest",
        ]
        if self.labels is not None:
            ours, theirs = ((x.argmax(-1) == self.labels).mean() for x in (self.logits, self.keras))
            count = f"{len(self.labels):,}"
            lines.append(f"accuracy on these {count} images {ours:.2%}, by Keras {theirs:.2%}")
        return "\n".join(lines)


def find(target: str) -> Format:
    """The format called `target`, once it is sure that it can be written here.

    Raises:
        InputError: it is unknown, or needs a package that is not here.
    """
    if target not in FORMATS:
        raise unknown("format", target, FORMATS)
    if keras.backend.backend() != "tensorflow":
        raise InputError("TensorFlow writes the exports; unset KERAS_BACKEND.")
    for name in FORMATS[target].packages:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"{target} needs {name}: pip install 'tinyconv[export]'.")
    return FORMATS[target]


def check_path(path: Path, form: Format) -> None:
    """Make sure that a file of the format `form` can be written to `path`.

    Raises:
        InputError: it ends otherwise, is a folder, or a file where a folder is to be, or cannot be
            written there.
    """
    _, dot, suffix = form.tail.partition(".")
    if dot and path.suffix != dot + suffix:
        raise InputError(f"{path} must end in .{suffix}.")
    if path.is_dir() or (path.exists() and not dot):
        raise InputError(f"{path} is there already; remove it or choose another.")
    atomic.check_writable(path.parent)


def export(
    model: keras.Model,
    target: str,
    path: Path,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
) -> Check:
    """Write a trained model as `target`, and run what was written.

    Args:
        model: a functional model from images to logits.
        target: a key of `FORMATS`.
        path: the file to write, or the folder of a savedmodel, which must not be there yet.
        images: to compare with Keras, (N, height, width, 3) in uint8.
        labels: their classes (N,), if they are known.
        calibration: images of the same form that show int8 the range of each activation; better
            others than `images`, which stand in for them.

    Raises:
        InputError: it cannot be written, or what was written answers otherwise than Keras; nothing
            of it is left.
    """
    form = find(target)
    check_path(path, form)
    with tempfile.TemporaryDirectory(prefix=atomic.PARTIAL, dir=path.parent) as folder:
        written = Path(folder, path.name)
        try:
            form.write(model, written, images if calibration is None else calibration)
            run = form.load(written)
            logits = run(images)
        except Exception as error:  # whatever converters and runtimes raise
            said = " ".join(str(error).split())[:200]
            raise InputError(
                f"{model.name} cannot be written as {target} ({type(error).__name__}: {said})."
            ) from error
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        check = Check(
            logits,
            np.asarray(model.predict(images, verbose=0), np.float32),
            labels,
            _latency(run, images[:1]),
            sum(file.stat().st_size for file in files),
        )
        if not check.agrees(form):
            raise InputError(
                f"{path} disagrees with Keras and was removed: {check.same:.1%} of "
                f"{len(images):,} images are in the same class, where {form.same:.0%} must be, and "
                f"outputs differ by {check.difference:.1e} of the largest, where "
                f"{form.difference:.0e} is allowed."
            )
        written.rename(path)
    return check


def _latency(run: Runtime, image: np.ndarray) -> float:
    def call() -> float:
        start = time.perf_counter()
        run(image)
        return time.perf_counter() - start

    return statistics.median(call() for _ in range(CALLS))


def rewritten(model: keras.Model, onnx: bool = False) -> keras.Model:
    """A model of the same function for exporters: see the top of this file.

    Args:
        model: a functional model.
        onnx: rewrite what ONNX exports get wrong, too.
    """
    originals = {layer.name: layer for layer in model.layers}
    orders = _channel_orders(model)

    def clone(layer: keras.Operation) -> keras.Operation:
        kind = type(layer)
        if onnx and _activation(layer) == "gelu":
            kind = _ByErf
        elif onnx and isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:
            kind = _ByGroup
        return kind.from_config(layer.get_config())

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        original: Any = originals.get(layer.name)
        if layer.name in orders and original.weights:
            return _reordered(original, orders[layer.name], args[0])
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in copy.layers:
        if layer.name in originals and layer.name not in orders:
            layer.set_weights(originals[layer.name].get_weights())
    return copy


def _channel_orders(model: keras.Model) -> dict[str, np.ndarray]:
    """Layer -> which of its channels comes where, for depthwise convolutions with a multiplier.

    That is for those followed by layers that treat every channel alike, and then a Dense, and for
    these. Channel `c * multiplier + j` moves to `j * channels + c`.
    """
    found = Graph(model)
    orders: dict[str, np.ndarray] = {}
    for first in (node for node in found.nodes if WIDENING.fits(node)):
        chain = [first]
        while not LAST.fits(chain[-1]):
            follower = found.follower(chain[-1])
            if follower is None or not any(own.fits(follower) for own in (*ALIKE, LAST)):
                break
            chain.append(follower)
        channels, multiplier = first.input_tensors[0].shape[-1], first.operation.depth_multiplier
        wide = {node.outputs[0].shape[-1] for node in chain[:-1]} == {channels * multiplier}
        functions = {getattr(node.operation, "activation", None) for node in chain[:-1]} - {None}
        known = functions <= {*map(keras.activations.get, KNOWN)}
        if multiplier > 1 and wide and known and LAST.fits(chain[-1]):
            order = np.arange(channels * multiplier).reshape(channels, multiplier).T.ravel()
            orders |= {node.operation.name: order for node in chain}
    return orders


def _reordered(layer: keras.layers.Layer, order: np.ndarray, x: Any) -> Any:
    """`layer` of `x` with its channels in `order`; a Dense takes them so, and puts out its own."""
    config, (kernel, *others) = layer.get_config(), layer.get_weights()
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        x = keras.layers.Concatenate(name=f"{layer.name}_copies")([x] * layer.depth_multiplier)
        config["depth_multiplier"] = 1
        kernel = kernel.reshape(*kernel.shape[:2], -1, 1)[:, :, order]
        others = [bias[order] for bias in others]
    elif isinstance(layer, keras.layers.LayerNormalization):
        kernel, others = kernel[order], [beta[order] for beta in others]
    else:
        kernel = kernel[order]
    copy = type(layer).from_config(config)
    y = copy(x)
    copy.set_weights([kernel, *others])
    return y


def for_int8(model: keras.Model) -> keras.Model:
    """The same function in what LiteRT does well in 8 bits: see the top of this file."""

    def clone(layer: keras.Operation) -> keras.Operation:
        kind, after = type(layer), [node.operation for node in layer._outbound_nodes]
        if isinstance(layer, keras.layers.LayerNormalization):
            last = layer.input.ndim - 1
            if layer.axis in (-1, [-1], last, [last]):
                kind = _ByProducts
        elif _activation(layer) == "exponential" and {*map(_activation, after)} == {"tanh"}:
            kind = _Held
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class _ByErf(keras.layers.Activation):
    """Exact GELU by the error function."""

    def call(self, x: Any) -> Any:
        return x * 0.5 * (1 + ops.erf(x * 0.5**0.5))


class _ByGroup(keras.layers.Conv2D):
    """A grouped convolution as one for each group."""

    def call(self, x: Any) -> Any:
        both = zip(
            ops.split(x, self.groups, axis=-1),
            ops.split(self.kernel, self.groups, axis=-1),
            strict=True,
        )
        how = (self.strides, self.padding, self.data_format, self.dilation_rate)
        y = ops.concatenate([ops.conv(part, kernel, *how) for part, kernel in both], axis=-1)
        return self.activation(y + self.bias if self.use_bias else y)


class _ByProducts(keras.layers.LayerNormalization):
    """A layer norm over the channels whose means are products with a matrix."""

    def call(self, x: Any) -> Any:
        mean = np.full((x.shape[-1], 1), 1 / x.shape[-1], np.float32)
        x = x - ops.matmul(x, mean)
        x = x * ops.rsqrt(ops.matmul(x * x, mean) + self.epsilon)
        if self.scale:
            x = x * self.gamma
        return x + self.beta if self.center else x


class _Held(keras.layers.Activation):
    """An activation of at most `EXPONENT`."""

    def call(self, x: Any) -> Any:
        return super().call(ops.minimum(x, EXPONENT))


def _activation(layer: keras.Operation) -> str | None:
    """Of an `Activation`, which."""
    is_one = isinstance(layer, keras.layers.Activation)
    return layer.get_config()["activation"] if is_one else None


def _litert(model: keras.Model, path: Path, images: np.ndarray) -> None:
    converter = _converter(rewritten(model))
    path.write_bytes(converter.convert())


def _litert_int8(model: keras.Model, path: Path, images: np.ndarray) -> None:
    import tensorflow as tf

    def examples() -> Iterator[list[np.ndarray]]:
        return ([image[None].astype(np.float32)] for image in images)

    converter = _converter(for_int8(rewritten(model)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    path.write_bytes(converter.convert())


def _converter(model: keras.Model) -> Any:
    """A converter of `model` for single images, with variables frozen and built-in operations."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), [signature])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _run_litert(path: Path) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        logits = np.empty((len(images), answer["shape"][-1]), np.float32)
        for i, one in enumerate(images.astype(image["dtype"])):
            interpreter.set_tensor(image["index"], one[None])
            interpreter.invoke()
            logits[i] = interpreter.get_tensor(answer["index"])[0]
        return logits

    return run


def _onnx(model: keras.Model, path: Path, images: np.ndarray) -> None:
    exported = rewritten(model, onnx=True)
    exported.export(path, format="onnx", input_signature=_signature(model), verbose=False)


def _run_onnx(path: Path) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(None, {image.name: images})[0]

    return _by_batch(run)


def _savedmodel(model: keras.Model, path: Path, images: np.ndarray) -> None:
    model.export(path, format="tf_saved_model", input_signature=_signature(model), verbose=False)


def _run_savedmodel(path: Path) -> Runtime:
    import tensorflow as tf

    served = tf.saved_model.load(path)

    def run(images: np.ndarray) -> np.ndarray:
        return served.serve(images).numpy()

    return _by_batch(run)


def _signature(model: keras.Model) -> list[keras.InputSpec]:
    return [keras.InputSpec(shape=model.input_shape, dtype="float32", name="image")]


def _by_batch(run: Runtime) -> Runtime:
    """`run` for any number of images, 64 at a time and in float32."""

    def runs(images: np.ndarray) -> np.ndarray:
        batches = np.split(images.astype(np.float32), range(64, len(images), 64))
        return np.concatenate([run(batch) for batch in batches])

    return runs


FORMATS = {
    "litert": Format(".tflite", _litert, _run_litert, packages=("ai_edge_litert",)),
    "litert-int8": Format(
        "-int8.tflite",
        _litert_int8,
        _run_litert,
        packages=("ai_edge_litert",),
        same=0.9,
        difference=float("inf"),
    ),
    "onnx": Format(".onnx", _onnx, _run_onnx, packages=("onnx", "onnxruntime", "tf2onnx")),
    "savedmodel": Format("-savedmodel", _savedmodel, _run_savedmodel),
}
