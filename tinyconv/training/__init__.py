"""A training, from a recipe, a net, data and devices to a run folder.

| module | what it holds |
|---|---|
| `run.py` | what makes a training |
| `train.py` | `train` and `resume` |
| `head.py` | the trained model that a run starts from, with its head |
| `trainer.py` | the models of a run: built, compiled, fitted, averaged |
| `callbacks.py` | what happens in every epoch |
| `run_folder.py`, `data_path.py` | what is written, and read again |
"""
