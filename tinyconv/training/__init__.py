"""Training: from a recipe, a net, data and devices to a run folder.

| module | content |
|---|---|
| `run.py` | the settings of a run |
| `train.py` | `train` and `resume` |
| `head.py` | the head of a trained model that a run starts from |
| `trainer.py` | the models of a run, and their training |
| `losses.py` | the loss of a recipe, and class weights |
| `stopping.py` | when a run stops, and which epoch it keeps |
| `callbacks.py` | callbacks of every epoch |
| `facts.py` | the facts of a run for its report |
| `run_folder.py` | the files of a run |
| `data_path.py` | the path of the data |
"""
