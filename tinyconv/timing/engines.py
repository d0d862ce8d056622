"""The engines that run a trained model on a CPU, timed in turn.

`python -m tinyconv.timing.engines [NET ...]` exports each net that ships, and runs each engine in a
process of its own on all cores. It prints images per second by batches of 1 and of 64 images: the
median and the range of several rounds.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.timing.figures import Spread

ROUNDS, SECONDS, BATCHES = 5, 0.5, (1, 64)
FORMATS = ("litert", "litert-int8", "onnx", "openvino", "openvino-int8")


def _keras(net: str, folder: Path, fused: bool = False) -> Any:
    import tensorflow as tf

    from tinyconv import create_model
    from tinyconv.fast.twin import twin

    model = create_model(net, pretrained=True)
    call = tf.function(twin(model, training=False) if fused else model, reduce_retracing=True)
    return lambda images: call(images, training=False).numpy()


def _litert(net: str, folder: Path, kind: str = "litert") -> Any:
    from ai_edge_litert.interpreter import Interpreter

    from tinyconv.machine import cores

    interpreter = Interpreter(str(folder / kind), num_threads=cores())
    interpreter.allocate_tensors()
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        answers = []
        for one in images.astype(image["dtype"]):
            interpreter.set_tensor(image["index"], one[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(answer["index"])[0])
        return np.stack(answers)

    return run


def _onnx(net: str, folder: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "onnx", providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def _openvino(net: str, folder: Path, kind: str = "openvino", precision: str = "f32") -> Any:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(folder / kind / "model.xml", "CPU", options)
    return lambda images: model(images)[0]


ENGINES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain Keras": (_keras, {}),
    "fast twin": (_keras, {"fused": True}),
    "LiteRT": (_litert, {}),
    "LiteRT int8": (_litert, {"kind": "litert-int8"}),
    "ONNX Runtime": (_onnx, {}),
    "OpenVINO f32": (_openvino, {}),
    "OpenVINO bf16": (_openvino, {"precision": "bf16"}),
    "OpenVINO int8": (_openvino, {"kind": "openvino-int8"}),
}


def work(engine: str, net: str, folder: Path) -> None:
    """Time an engine for each line of the standard input; print images per second as JSON."""
    opened, options = ENGINES[engine]
    run = opened(net, folder, **options)
    images = np.load(folder / "images.npy")
    for size in BATCHES:
        run(images[:size])
    print(json.dumps(float((run(images).argmax(-1) == np.load(folder / "keras.npy")).mean())))
    for _ in sys.stdin:
        speeds = []
        for size in BATCHES:
            count, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < SECONDS:
                run(images[:size])
                count += size
            speeds.append(count / spent)
        print(json.dumps(speeds), flush=True)


def _export(net: str, folder: Path) -> None:
    from tinyconv import create_model, data, exporters

    dataset = data.load("cifar10", (32, 32))
    images, _ = dataset.test.some(max(BATCHES))
    calibration, _ = dataset.train.some(exporters.CALIBRATION)
    model = create_model(net, pretrained=True)
    np.save(folder / "images.npy", images.astype(np.float32))
    np.save(folder / "keras.npy", model.predict(images, verbose=0).argmax(-1))
    for kind in FORMATS:
        exporters.get(kind).write(model, folder / kind, calibration)


def measure(net: str, engines: dict = ENGINES, rounds: int = ROUNDS) -> dict[str, tuple]:
    """Time the engines of a net in turn.

    Returns:
        A dict from each engine to its agreement with Keras, 0 to 1, and an array (rounds, batches)
        of images per second.
    """
    with tempfile.TemporaryDirectory() as name:
        _export(net, Path(name))
        command = [sys.executable, "-m", "tinyconv.timing.engines", "--worker"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers: dict[str, Any] = {}
        same = {}
        for engine in engines:
            workers[engine] = subprocess.Popen([*command, engine, net, name], **pipes, bufsize=1)
            same[engine] = json.loads(workers[engine].stdout.readline())
        figures: dict[str, list] = {engine: [] for engine in engines}
        for _ in range(rounds):
            for engine, worker in workers.items():
                worker.stdin.write("\n")
                figures[engine].append(json.loads(worker.stdout.readline()))
        for worker in workers.values():
            worker.communicate()
    return {engine: (same[engine], np.array(figures[engine])) for engine in engines}


def main(nets: list[str], rounds: int = ROUNDS) -> None:
    """Time all engines of `nets`, and print a table."""
    batches = " | ".join(f"images/s by {size}" for size in BATCHES)
    print(f"| net | engine | {batches} | in the same class |\n" + "|---" * 5 + "|")
    for net in nets:
        for engine, (same, figures) in measure(net, rounds=rounds).items():
            cells = (f"{Spread(tuple(column)):,.0f}" for column in figures.T)
            print(f"| `{net}` | {engine} |", " | ".join(cells), f"| {same:.0%} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        from tinyconv import trained

        main(sys.argv[1:] or sorted(trained.shipped()))
