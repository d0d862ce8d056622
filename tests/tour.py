"""Runs the notebook `examples/tour.ipynb`.

`python tests/tour.py` runs it in a temporary folder and writes the outputs into the notebook.
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "examples/tour.ipynb"
# With the first, a kernel does not show what C++ code writes. The second hides it.
UNSET = ("PYTEST_CURRENT_TEST", "TF_CPP_MIN_LOG_LEVEL", "TQDM_DISABLE")


def execute(notebook, folder):
    """Run every code cell of a notebook in `folder`, as Jupyter does, and keep its outputs.

    Args:
        notebook: the notebook, which gets the outputs. A progress bar is kept as it is at its end.
        folder: the working directory.

    Raises:
        CellExecutionError: a cell raised an error.
    """
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    path = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment | {"PYTHONPATH": os.pathsep.join(path)})


def main():
    notebook = nbformat.read(TOUR, 4)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, folder)
    text = nbformat.writes(notebook).replace(str(ROOT), "tinyconv")  # the place of the clone
    TOUR.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
