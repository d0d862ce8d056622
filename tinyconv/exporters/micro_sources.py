"""C++ sources for a model in TensorFlow Lite for Microcontrollers."""

from dataclasses import dataclass

HEADER = """\
// A model for TensorFlow Lite for Microcontrollers (TFLM), written by tinyconv.
#ifndef MODEL_H_
#define MODEL_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace model {{

extern const unsigned char kData[];  // model.tflite, to be read from flash
constexpr unsigned int kSize = {size};

// Bytes that TFLM needs for the activations with its reference kernels on a 64-bit machine. Other
// kernels, such as CMSIS-NN, allocate differently: if AllocateTensors fails, increase this number,
// and then reduce it to what interpreter.arena_used_bytes() returns.
constexpr unsigned int kArenaSize = {arena};

// Input: int8, (1, kHeight, kWidth, kChannels): red, green, blue, pixel by pixel and row by row.
// An integer q is a pixel of kInputScale * (q - kInputZeroPoint), from 0 to 255.
constexpr int kHeight = {shape[0]};
constexpr int kWidth = {shape[1]};
constexpr int kChannels = {shape[2]};
constexpr float kInputScale = {input[0]!r}f;
constexpr int kInputZeroPoint = {input[1]};

// Output: int8, (1, kClasses). An integer q is a logit of kOutputScale * (q - kOutputZeroPoint).
// The largest is the prediction.
constexpr int kClasses = {classes};
constexpr float kOutputScale = {output[0]!r}f;
constexpr int kOutputZeroPoint = {output[1]};
extern const char* const kLabels[kClasses];

using OpResolver = tflite::MicroMutableOpResolver<{count}>;

inline TfLiteStatus AddOperators(OpResolver& resolver) {{
{operators}
  return kTfLiteOk;
}}

}}  // namespace model

#endif  // MODEL_H_
"""

DATA = """\
#include "model.h"

namespace model {{

const char* const kLabels[kClasses] = {{
{labels}
}};

alignas(16) const unsigned char kData[] = {{
{data}
}};

}}  // namespace model
"""

MAIN = """\
// Classifies one image.
#include <cstdint>

#include "model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

alignas(16) static uint8_t arena[model::kArenaSize];
static uint8_t image[model::kHeight * model::kWidth * model::kChannels];  // RGB, from a camera

int main() {
  tflite::InitializeTarget();
  model::OpResolver resolver;
  if (model::AddOperators(resolver) != kTfLiteOk) return 1;
  tflite::MicroInterpreter interpreter(tflite::GetModel(model::kData), resolver, arena,
                                       model::kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;

  int8_t* input = interpreter.input(0)->data.int8;
  for (unsigned int i = 0; i < sizeof(image); ++i) {
    input[i] = static_cast<int8_t>(image[i] + model::kInputZeroPoint);  // kInputScale is 1
  }
  if (interpreter.Invoke() != kTfLiteOk) return 1;

  const int8_t* logits = interpreter.output(0)->data.int8;
  int best = 0;
  for (int i = 1; i < model::kClasses; ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  MicroPrintf("%s", model::kLabels[best]);
  return 0;
}
"""

METHODS = {  # of MicroMutableOpResolver, where the words of an operator do not give its name
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}


@dataclass(frozen=True)
class Source:
    """What the sources say of a model.

    Args:
        data: the bytes of the `.tflite` file.
        shape: height, width and channels of the input.
        input: the scale and the zero point of the input.
        output: the scale and the zero point of the output.
        labels: the names of the classes, in the order of the outputs.
        operators: the operators, as TFLite names them.
        arena: bytes for the activations.
    """

    data: bytes
    shape: tuple[int, ...]
    input: tuple[float, int]
    output: tuple[float, int]
    labels: tuple[str, ...]
    operators: tuple[str, ...]
    arena: int

    def files(self) -> dict[str, str]:
        """The texts of `model.h`, `model.cc` and `main.cc`."""
        rows = (self.data[start : start + 16] for start in range(0, len(self.data), 16))
        header = HEADER.format(
            **vars(self) | {"operators": "\n".join(map(_added, self.operators))},
            size=len(self.data),
            classes=len(self.labels),
            count=len(self.operators),
        )
        data = DATA.format(
            labels="\n".join(f"    {_literal(label)}," for label in self.labels),
            data="\n".join(f"    {', '.join(f'0x{byte:02x}' for byte in row)}," for row in rows),
        )
        return {"model.h": header, "model.cc": data, "main.cc": MAIN}


def _added(operator: str) -> str:
    """A statement that adds an operator to a `MicroMutableOpResolver`."""
    return f"  TF_LITE_ENSURE_STATUS(resolver.{_method(operator)}());"


def _method(operator: str) -> str:
    """The method of `MicroMutableOpResolver` for an operator: `AddConv2D` for CONV_2D."""
    words = "".join(
        word if word[0].isdigit() else word.capitalize() for word in operator.split("_")
    )
    return METHODS.get(operator, f"Add{words}")


def _literal(text: str) -> str:
    """A C++ string of a text, in ASCII: other characters as the octal digits of UTF-8."""
    return '"' + "".join(map(_character, text.encode())) + '"'


def _character(byte: int) -> str:
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"
