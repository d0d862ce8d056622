"""The public functions: what their docstrings say, and that their examples run."""

import inspect
import os
import re
import textwrap

import numpy as np
import pytest
from conftest import run
from PIL import Image

import tinyconv
from tinyconv import cli

FUNCTIONS = ("create_model", "list_models", "train", "evaluate", "predict", "export")
LONG = ("train", "evaluate", "export")  # examples


def example(name):
    text = inspect.cleandoc(getattr(tinyconv, name).__doc__)
    (code,) = re.findall(r"Example:\n\n```python\n(.*?)```", text, re.S)
    return textwrap.dedent(code)


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in LONG else ()) for x in FUNCTIONS]
)
def test_a_public_function_says_what_it_takes_and_returns_and_its_example_runs(
    name, tmp_path, monkeypatch, capsys
):
    text = inspect.cleandoc(getattr(tinyconv, name).__doc__)
    for part in ("Args:", "Returns:", *(["Raises:"] if name != "list_models" else [])):
        assert re.search(rf"^{part}$", text, re.M)
    for argument in inspect.signature(getattr(tinyconv, name)).parameters:
        assert re.search(rf"^    \*{{0,2}}{argument}: ", text, re.M), argument
    if '"cifar10")' in example(name) and not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("TFDS_DATA_DIR does not name a folder with CIFAR-10")
    if '"litert"' in example(name):
        pytest.importorskip("ai_edge_litert", reason="it comes with tinyconv[export]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save("photos/black.png")
    exec(example(name), {"tinyconv": tinyconv})


@pytest.mark.slow
def test_what_is_public_needs_no_keras():
    code = f"""
import sys, tinyconv
assert {{"InputError", *{FUNCTIONS}}} <= {{*tinyconv.__all__}}
assert not {{"keras", "tensorflow"}} & {{*sys.modules}}
for name in tinyconv.__all__:
    getattr(tinyconv, name)
"""
    run("-c", code)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_ends_in_examples_of_it(name, capsys):
    with pytest.raises(SystemExit):
        cli.parse([name, "--help"])
    *_, examples = capsys.readouterr().out.split("\nexamples:\n")
    lines = examples.strip().splitlines()
    assert lines and all(line.strip().startswith(f"tinyconv {name}") for line in lines)
