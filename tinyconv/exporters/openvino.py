"""OpenVINO: in float, and in 8 bits by NNCF."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from tinyconv import terminal
from tinyconv.exporters import Format, Runtime, in_batches, signature
from tinyconv.exporters.rewrite import rewritten

FILE = "model.xml"


def _write_float(model: keras.Model, path: Path, images: np.ndarray) -> None:
    path.mkdir()
    file, inputs = str(path / FILE), signature(model)
    rewritten(model).export(file, format="openvino", input_signature=inputs, verbose=False)


def _write_int8(model: keras.Model, path: Path, images: np.ndarray) -> None:
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, _bars_in_a_terminal_alone():
        _write_float(model, Path(folder, "float"), images)
        read = openvino.Core().read_model(Path(folder, "float", FILE))  # maps the file into memory
        calibration = nncf.Dataset([image[None].astype(np.float32) for image in images])
        quantized = nncf.quantize(
            read,
            calibration,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,  # the nets have its layers: layer norm and GELU
        )
        openvino.save_model(quantized, path / FILE, compress_to_fp16=False)


@contextmanager
def _bars_in_a_terminal_alone() -> Iterator[None]:
    """Silence the console of rich, which shows NNCF's progress bars, outside a terminal."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, not terminal.bars()
    try:
        yield
    finally:
        console.quiet = before


def _load(path: Path, threads: int = 1, precision: str = "f32") -> Runtime:
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(path / FILE, "CPU", options)

    def run(images: np.ndarray) -> np.ndarray:
        return compiled(images)[0]

    return in_batches(run)


FORMATS = {
    "openvino": Format("-openvino", _write_float, _load, packages=("openvino",), extra="openvino"),
    "openvino-int8": Format(
        "-openvino-int8",
        _write_int8,
        _load,
        packages=("openvino", "nncf"),
        extra="openvino",
        same=0.9,
        difference=float("inf"),
    ),
}
