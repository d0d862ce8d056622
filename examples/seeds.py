"""Train with several seeds, and print the mean and the deviation of the test accuracy:

python examples/seeds.py [DATA [SEEDS [EPOCHS [OUT]]]]   (data as for train.py)
"""

import json
import sys

import numpy as np

import tinyconv

usual = ("digits", "5", "20", "models/seeds")
data, seeds, epochs, out = [*sys.argv[1:], *usual[len(sys.argv) - 1 :]]
accuracies = []
for seed in range(int(seeds)):
    options = {"recipe": "digits", "epochs": int(epochs), "seed": seed, "out": out}
    folder = tinyconv.train("cifar10_tiny_half", data, **options)
    accuracies.append(json.loads((folder / "report.json").read_text())["test"]["accuracy"])

for seed, accuracy in enumerate(accuracies):
    print(f"seed {seed}: {accuracy:.2%}")
print(f"mean {np.mean(accuracies):.2%}, standard deviation {np.std(accuracies, ddof=1):.2%}")
