"""Search for settings of the recipe on held-out images with Optuna (pip install optuna):

python examples/search.py [DATA [HOLDOUT [TRIALS [EPOCHS [OUT]]]]]
"""

import sys

import keras
import optuna

import tinyconv

usual = ("digits", "200", "20", "5", "models/search")
data, holdout, trials, epochs, out = [*sys.argv[1:], *usual[len(sys.argv) - 1 :]]


def objective(trial):
    settings = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.1]),
    }
    reached = []

    def report(epoch, logs):
        reached.append(logs["val_accuracy"])
        trial.report(reached[-1], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    options = {"epochs": int(epochs), "holdout": int(holdout), "out": out}
    options["callbacks"] = [keras.callbacks.LambdaCallback(on_epoch_end=report)]
    tinyconv.train("cifar10_tiny_half", data, recipe="muon", settings=settings, **options)
    return reached[-1]


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=int(trials))
changes = " ".join(f"--set {name}={value}" for name, value in study.best_params.items())
print(f"{study.best_value:.2%} of the held-out images: --recipe muon {changes}")
