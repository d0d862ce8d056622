"""The int8 file for TFLite Micro answers as Keras does, and its C++ sources hold the same bytes."""

import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import run
from keras import ops

from tinyconv import create_model, exporters
from tinyconv.errors import InputError
from tinyconv.exporters import micro_sources, rewrite

LABELS = ("cat", 'the "other" cat', "Käfer", "what??/", "a\\b\nc")
IMAGES = np.random.default_rng(0).integers(256, size=(64, 8, 8, 3), dtype=np.uint8)


def needs_micro():
    pytest.importorskip("tflite_micro", reason="it comes with tinyconv[micro]")


def special(gate=True):
    """A net with everything that is rewritten for TFLite Micro, and with random weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1)(image)
    x = keras.layers.Conv2D(16, 3, activation="gelu")(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = keras.layers.Activation("gelu")(x)
    x = ops.gelu(keras.layers.Dense(16)(x), approximate=True)
    e = keras.layers.Activation("exponential")(x)
    x = keras.layers.Multiply()([keras.layers.Activation("tanh")(e) if gate else e, x])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(len(LABELS))(x), name="special")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    needs_micro()
    path = tmp_path_factory.mktemp("micro") / "special-micro"
    check = exporters.export(special(), "micro", path, IMAGES, about=exporters.About(LABELS))
    return path, check


def test_every_rewritten_operator_runs_in_tflite_micro(exported):
    path, check = exported
    assert check.same >= 0.95 and check.difference < 0.1
    assert check.latency is None and check.size == (path / "model.tflite").stat().st_size
    assert sorted(p.name for p in path.iterdir()) == [
        "main.cc",
        "model.cc",
        "model.h",
        "model.tflite",
    ]
    for word in ("LOGISTIC", "TANH", "RSQRT", "bytes", "CMSIS-NN"):
        assert word in check.text()
    for word in (" ms ", "GELU", "QUANTIZE", "in float"):
        assert word not in check.text()


def test_the_array_is_the_file(exported):
    path, _ = exported
    data = (path / "model.tflite").read_bytes()
    source = (path / "model.cc").read_text()
    digits = re.findall(r"0x([0-9a-f]{2})", source.partition("kData[] = {")[2])
    assert bytes.fromhex("".join(digits)) == data
    assert f"kSize = {len(data)};" in (path / "model.h").read_text()


def test_the_header_says_how_to_feed_and_read_the_model(exported):
    """A reader of the header alone gets the logits of Keras."""
    path, check = exported
    header = (path / "model.h").read_text()
    numbers = dict(
        re.findall(r"constexpr (?:unsigned )?(?:int|float) (\w+) = (-?[\d.e-]+)f?;", header)
    )
    assert float(numbers["kInputScale"]) == 1 and int(numbers["kInputZeroPoint"]) == -128
    assert (numbers["kHeight"], numbers["kWidth"], numbers["kChannels"]) == ("8", "8", "3")
    assert int(numbers["kClasses"]) == len(LABELS)
    from tflite_micro import runtime

    data = (path / "model.tflite").read_bytes()
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=int(numbers["kArenaSize"]))
    interpreter.set_input((IMAGES[:1].astype(np.int16) - 128).astype(np.int8), 0)
    interpreter.invoke()
    integers = interpreter.get_output(0)[0].astype(np.float32)
    logits = (integers - int(numbers["kOutputZeroPoint"])) * float(numbers["kOutputScale"])
    np.testing.assert_allclose(logits, check.logits[0], rtol=1e-6)


STUBS = {  # of the headers of TFLite Micro, with the parts that the sources use
    "micro/micro_mutable_op_resolver.h": """
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
#define TF_LITE_ENSURE_STATUS(a) do { if ((a) != kTfLiteOk) return kTfLiteError; } while (0)
struct TfLiteTensor { union { int8_t* int8; } data; };
namespace tflite {
struct Model;
struct MicroOpResolver {};
template <unsigned int n> struct MicroMutableOpResolver : MicroOpResolver {
  METHODS
};
}
""",
    "micro/micro_interpreter.h": """
namespace tflite {
struct MicroInterpreter {
  MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { tensor.data.int8[3] = 127; return kTfLiteOk; }
  TfLiteTensor* input(size_t) { return &tensor; }
  TfLiteTensor* output(size_t) { return &tensor; }
  int8_t values[4096] = {};
  TfLiteTensor tensor = {{values}};
};
}
""",
    "micro/micro_log.h": "#include <cstdio>\n#define MicroPrintf(...) printf(__VA_ARGS__)",
    "micro/system_setup.h": "namespace tflite { inline void InitializeTarget() {} }",
    "schema/schema_generated.h": """
namespace tflite {
inline const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }
}
""",
}


def test_the_sources_compile_and_print_a_label(exported, tmp_path):
    """With stubs of the headers of TFLite Micro: its own sources are in no registry."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    path, _ = exported
    used = re.findall(r"resolver\.(\w+)\(\)", (path / "model.h").read_text())
    methods = "\n".join(f"TfLiteStatus {name}() {{ return kTfLiteOk; }}" for name in used)
    for name, text in STUBS.items():
        stub = tmp_path / "tensorflow/lite" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"#pragma once\n{text.replace('METHODS', methods)}")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wtrigraphs", f"-I{tmp_path}"]
    program = tmp_path / "program"
    sources = [path / "model.cc", path / "main.cc"]
    subprocess.run(["g++", *flags, "-o", program, *sources], check=True)
    assert subprocess.run([program], capture_output=True, check=True).stdout.decode() == LABELS[3]


def test_labels_are_cpp_strings():
    texts = [micro_sources._literal(label) for label in LABELS]
    assert texts[0] == '"cat"' and texts[1] == r'"the \042other\042 cat"'
    assert texts[2] == r'"K\303\244fer"' and texts[3] == r'"what\077\077/"'
    assert texts[4] == r'"a\134b\012c"'


def test_operators_have_the_names_of_the_resolver():
    names = ("CONV_2D", "DEPTHWISE_CONV_2D", "PADV2", "SELECT_V2", "RELU6", "BATCH_MATMUL")
    assert list(map(micro_sources._method, names)) == [
        "AddConv2D",
        "AddDepthwiseConv2D",
        "AddPadV2",
        "AddSelectV2",
        "AddRelu6",
        "AddBatchMatMul",
    ]


def test_an_operator_that_tflite_micro_lacks_is_named(tmp_path):
    needs_micro()
    with pytest.raises(InputError, match=r"TFLite Micro cannot run .* no operator EXP"):
        exporters.export(special(gate=False), "micro", tmp_path / "net", IMAGES)
    assert not list(tmp_path.iterdir())


def test_operators_in_float_are_named(tmp_path):
    """TFLite has no ELU in 8 bits, and computes it between two conversions."""
    needs_micro()
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="elu")(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    check = exporters.export(model, "micro", tmp_path / "net", IMAGES)
    assert check.text().endswith("in float, which is slow without an FPU: ELU")


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(InputError, match=r"needs tflite_micro: pip install 'tinyconv\[micro\]'"):
        exporters.get("micro")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_tiny_half", "tiniest", "test_convnext"])
def test_a_net_rewritten_for_tflite_micro_is_nearly_the_same_function(name):
    model = create_model(name)
    shape = (4, *model.input_shape[1:])
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    expected = model.predict_on_batch(images)
    answers = rewrite.for_int8(model, micro=True).predict_on_batch(images)
    np.testing.assert_allclose(answers, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.slow
def test_micro_by_command(tmp_path):
    needs_micro()
    images = np.random.default_rng(0).integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(16) % 2
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "noise.npz", **arrays, class_names=["odd", "even"])
    target = tmp_path / "net"
    arguments = ("cifar10_tiny_half", "--to", "micro", "--out", target)
    out, _ = run("-m", "tinyconv", "export", *arguments, "--data", tmp_path / "noise.npz")
    assert "of 16 images in the same class as by Keras" in out and "10 operators: ADD" in out
    assert '"airplane",\n    "automobile",' in (target / "model.cc").read_text()
