"""The notebook runs from top to bottom, and its stored outputs are whole and small."""

import base64
import copy
import re

import nbformat
import pytest
from tour import ROOT, TOUR, execute

SMALL = 100_000  # bytes of all pictures


@pytest.fixture(scope="module")
def notebook():
    stored = nbformat.read(TOUR, 4)
    nbformat.validate(stored)
    return stored


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def check(notebook):
    """Every cell has run, in order, without an error; all pictures and figures are there."""
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} == {
        "stream",
        "display_data",
        "execute_result",
    }
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    # Neither messages of TensorFlow nor warnings, and of each progress bar only its end.
    assert not any(output.get("name") == "stderr" for output in outputs), text
    assert not any(words in text for words in ("WARNING", "INFO:", "Traceback", "\r", "\b"))
    assert "Epoch 3/3" in text and "━━━━━━━━━━━━━━━━━━━━" in text
    for name in ("automobile", "ship"):
        assert re.search(rf"^{name} [5-9]\d\.\d%, ", text, re.MULTILINE)
    assert "digits.tflite" in text or "digits-savedmodel" in text
    (result,) = (o.data["text/plain"] for o in outputs if o.output_type == "execute_result")
    assert "images right: accuracy" in result and "array(" not in result
    pictures = [o.data["image/png"] for o in outputs if o.output_type == "display_data"]
    assert len(pictures) == 5
    assert sum(len(base64.b64decode(picture)) for picture in pictures) < SMALL
    scratch, tuned = (
        float(words.split("%")[0])
        for words in text.split("from random weights ")[1].split("fine-tuned ")
    )
    assert tuned > 80 and tuned > scratch + 10


def test_the_stored_outputs_are_whole_and_small(notebook):
    check(notebook)
    assert TOUR.stat().st_size < 2 * SMALL
    assert str(ROOT) not in TOUR.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(notebook, tmp_path):
    run = copy.deepcopy(notebook)
    for cell in code(run):
        cell.outputs, cell.execution_count = [], None
    execute(run, tmp_path)
    check(run)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
