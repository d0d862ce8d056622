"""The page docs/first-net.md: its files, programs, commands and outputs, in a copy of tinyconv."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = ROOT / "docs/first-net.md"
WRITE = re.compile(r"[Ww]rite the file\s+`([^`]+)`:$")
ADD = re.compile(r"directly under the line\s+`([^`]+)`\s+of\s+`([^`]+)`:$")
MARK = "<the next block>"
RUN = f"""
import json, pathlib, shlex, subprocess, sys
import tinyconv
from tinyconv import cli
assert pathlib.Path(tinyconv.__file__).parents[1] == pathlib.Path.cwd()
for kind, text in json.load(sys.stdin):
    print({MARK!r}, flush=True)
    if kind == "python":
        exec(text, {{}})
    for line in text.splitlines() if kind == "sh" else ():
        runs = [str(run) for run in pathlib.Path("models").glob("*-first_net-digits")]
        program, *words = shlex.split(line.replace("models/RUN", " ".join(runs)))
        if program == "tinyconv":
            cli.main(words)
        else:
            assert program == "python"
            subprocess.run([sys.executable, *words], check=True)
"""


def blocks():
    """The fenced blocks of the page, in order: the text before each, its kind and its content."""
    text, found, end = PAGE.read_text(encoding="utf-8"), [], 0
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        found.append((text[end : block.start()].rstrip(), block[1], block[2]))
        end = block.end()
    return found


def run(steps, folder):
    """Run blocks in one process, whose working directory is `folder`, and return their outputs."""
    process = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        input=json.dumps(steps),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-3000:]
    return process.stdout.split(f"{MARK}\n")[1:]


def without_figures(line):
    """A line in which every number is #, and bars and the number of spaces do not count."""
    line = re.sub(r"[▏▎▍▌▋▊▉█]", "", line)
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,:-]*(e[-+]\d+)?(us|ms|s\b)?", "#", line)).strip()


def assert_shown(expected, output):
    """Every line of the page is in the output, in this order; figures may differ."""
    lines = (without_figures(line) for line in output.splitlines())
    for line in filter(None, map(without_figures, expected.splitlines())):
        assert line == "..." or any(line in other for other in lines), (line, output)


def test_lines_are_compared_without_their_figures():
    epoch = "113/113 - 6s - 54ms/step - accuracy: 0.6269 - loss: 1.2315"
    assert_shown(epoch, "Epoch 1/3\n113/113 - 16s - 1s/step - accuracy: 0.6 - loss: 1e-05\n")
    for other in ("113/113 - 6s - 54ms/step - accuracy: nan", "Epoch 1/3"):
        with pytest.raises(AssertionError):
            assert_shown(epoch, other)


@pytest.mark.slow
def test_the_page_makes_a_net_in_the_registry(tmp_path):
    """Every block of the page, in its order."""
    for name in ("tinyconv", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)  # with the compiled kernels
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (_, kind, install), *rest = blocks()
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert kind == "sh" and f"```sh\n{install}" in contributing
    steps, expected, shown = [], {}, []
    for before, kind, text in rest:
        if kind == "text":
            expected[len(shown) + len(steps) - 1] = text
        elif added := WRITE.search(before) or ADD.search(before):
            shown += run(steps, tmp_path) if steps else []  # a new process sees the change
            steps = []
            path = tmp_path / added[len(added.groups())]
            if added.re is WRITE:
                path.write_text(text, encoding="utf-8")
                continue
            old = path.read_text(encoding="utf-8")
            assert old.count(f"{added[1]}\n") == 1
            path.write_text(old.replace(f"{added[1]}\n", f"{added[1]}\n{text}"), encoding="utf-8")
        else:
            steps.append((kind, text))
    shown += run(steps, tmp_path)
    assert len(expected) == 6
    assert shown[0] == expected[0]  # parameters and multiply-adds, to the last
    for index, text in expected.items():
        assert_shown(text, shown[index])
    accuracy = float(re.search(r"images right: accuracy ([\d.]+)%", "".join(shown))[1])
    assert accuracy > 95
    assert [output.strip() for output in shown].count("8") == 2  # the digit, and the app's answer
