"""Cross-validation: train on all folds of the training images but one, and test on that one:

python examples/kfold.py [DATA [FOLDS [EPOCHS [OUT]]]]   (data as for train.py)
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

import tinyconv
from tinyconv.data import load

usual = ("digits", "5", "20", "models/kfold")
data, folds, epochs, out = [*sys.argv[1:], *usual[len(sys.argv) - 1 :]]
dataset = load(data, (32, 32))
images, labels = dataset.train.images[:], dataset.train.labels

accuracies = []
splits = StratifiedKFold(int(folds), shuffle=True, random_state=0).split(images, labels)
with tempfile.TemporaryDirectory() as place:
    for number, (train, test) in enumerate(splits, 1):
        file = Path(place, f"fold{number}.npz")
        arrays = {"x_train": images[train], "y_train": labels[train]}
        arrays |= {"x_test": images[test], "y_test": labels[test]}
        np.savez(file, **arrays, class_names=dataset.class_names)
        options = {"recipe": "digits", "epochs": int(epochs), "out": out}
        folder = tinyconv.train("cifar10_tiny_half", file, **options)
        accuracies.append(json.loads((folder / "report.json").read_text())["test"]["accuracy"])

for number, accuracy in enumerate(accuracies, 1):
    print(f"fold {number}: {accuracy:.2%}")
print(f"mean {np.mean(accuracies):.2%}, standard deviation {np.std(accuracies, ddof=1):.2%}")
