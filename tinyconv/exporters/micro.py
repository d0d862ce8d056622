"""TensorFlow Lite for Microcontrollers (TFLM): an int8 file, and its C++ sources."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv.errors import InputError
from tinyconv.exporters import Format, Runtime, micro_sources
from tinyconv.exporters.litert import convert_int8, converter_int8
from tinyconv.exporters.rewrite import for_int8

FILE = "model.tflite"
ARENA = 1 << 26  # bytes of the arena in which a file is tried; TFLM says how many it used
REFUSED = (r"Didn't find op for builtin opcode '(\w+)'", r"Node (\w+) \(number \d+f?\) failed")
ARENA_USED = r"Arena allocation total (\d+) bytes"


def _write(model: keras.Model, path: Path, images: np.ndarray) -> None:
    import tensorflow as tf

    images = images.copy()
    images[0, 0, :2] = [[0], [255]]  # the input then has the scale 1 and the zero point -128
    converter = converter_int8(for_int8(model, micro=True), images)
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.mkdir()
    (path / FILE).write_bytes(convert_int8(converter))


def _load(path: Path) -> Runtime:
    interpreter = _interpreter((path / FILE).read_bytes(), ARENA)
    scale, zero = _quantization(interpreter.get_input_details(0))
    step, middle = _quantization(interpreter.get_output_details(0))

    def run(images: np.ndarray) -> np.ndarray:
        answers = []
        for image in np.rint(images / scale + zero).clip(-128, 127).astype(np.int8):
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            answers.append(interpreter.get_output(0)[0])
        return (np.array(answers, np.float32) - middle) * step

    return run


def _interpreter(data: bytes, arena: int) -> Any:
    """TFLM's interpreter of a file.

    Raises:
        InputError: TFLM lacks an operator of the file, or has it for other types only.
    """
    from tflite_micro import runtime

    with _native_errors() as errors:
        try:
            return runtime.Interpreter.from_bytes(data, arena_size=arena)
        except RuntimeError as error:
            said = " ".join(errors())
            for pattern in REFUSED:
                if found := re.search(pattern, said):
                    raise InputError(
                        f"TFLite Micro cannot run this model: it has no operator {found[1]} that "
                        "takes these tensors in 8 bits."
                    ) from error
            raise InputError(f"TFLite Micro cannot run this model ({said[:200]}).") from error


@contextmanager
def _native_errors() -> Iterator[Any]:
    """Keep what C++ writes to the standard error, and yield a function that returns its lines."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)

        def lines() -> list[str]:
            kept.seek(0)
            return kept.read().decode(errors="replace").splitlines()

        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)


def _quantization(details: dict[str, Any]) -> tuple[float, int]:
    """The scale and the zero point of a tensor: a number is scale * (integer - zero point)."""
    parameters = details["quantization_parameters"]
    return float(parameters["scales"][0]), int(parameters["zero_points"][0])


def _operators(data: bytes) -> tuple[list[str], list[str]]:
    """The operators of a file, as TFLite names them, and those of them that compute in float."""
    from tflite_micro import runtime

    codes = vars(runtime.schema_fb.BuiltinOperator)
    names = {code: name for name, code in codes.items() if not name.startswith("_")}
    model = runtime.convert_bytearray_to_object(data)
    used = [names[runtime.get_builtin_code_from_operator_code(c)] for c in model.operatorCodes]
    (graph,) = model.subgraphs
    floats = {
        used[node.opcodeIndex]
        for node in graph.operators
        if any(graph.tensors[i].type == runtime.schema_fb.TensorType.FLOAT32 for i in node.outputs)
    }
    return sorted(set(used)), sorted(floats - {"DEQUANTIZE"})


def _complete(path: Path, class_names: Sequence[str]) -> str:
    """Write the C++ sources beside the file, and describe what a microcontroller needs."""
    data = (path / FILE).read_bytes()
    interpreter = _interpreter(data, ARENA)
    with _native_errors() as errors:
        interpreter.print_allocations()
        used = int(re.findall(ARENA_USED, " ".join(errors()))[0])
    operators, floats = _operators(data)
    source = micro_sources.Source(
        data=data,
        shape=tuple(map(int, interpreter.get_input_details(0)["shape"][1:])),
        input=_quantization(interpreter.get_input_details(0)),
        output=_quantization(interpreter.get_output_details(0)),
        labels=tuple(class_names),
        operators=tuple(operators),
        arena=-(-used // 1024) * 1024,
    )
    _interpreter(data, source.arena)
    for name, text in source.files().items():
        (path / name).write_text(text, encoding="utf-8")
    lines = [
        f"arena {used:,} bytes, by the reference kernels of TFLite Micro on this machine; CMSIS-NN "
        "allocates differently",
        f"{len(operators)} operators: {', '.join(operators)}",
    ]
    if floats:
        lines.append(f"in float, which is slow without an FPU: {', '.join(floats)}")
    return "\n".join(lines)


FORMATS = {
    "micro": Format(
        "-micro",
        _write,
        _load,
        packages=("tflite_micro",),
        extra="micro",
        same=0.9,
        difference=float("inf"),
        timed=False,
        complete=_complete,
    )
}
