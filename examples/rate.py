"""Learning-rate range test: the loss while the learning rate grows from step to step:

python examples/rate.py [DATA [EPOCHS [PICTURE]]]   (data as for train.py)
"""

import sys
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np

import tinyconv

data, epochs, picture = [*sys.argv[1:], *("digits", "5", "rate.png")[len(sys.argv) - 1 :]]
rates, losses = [], []


class Grow(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params["steps"] * self.params["epochs"]
        rates.append(10 ** (-5 + 5 * len(rates) / steps))
        self.model.optimizer.learning_rate = rates[-1]

    def on_train_batch_end(self, batch, logs=None):
        before = sum(losses[len(losses) - batch :])  # Keras gives the mean of the epoch so far
        losses.append(logs["loss"] * (batch + 1) - before)
        self.model.stop_training |= losses[-1] > 4 * np.mean(losses[:10])


settings = {"final_learning_rate": None, "warmup": 0}  # the callback sets the learning rate
with tempfile.TemporaryDirectory() as out:
    options = {"settings": settings, "epochs": int(epochs), "out": out}
    tinyconv.train("cifar10_tiny_half", data, **options, callbacks=[Grow()])
smooth = np.convolve(losses, np.ones(25) / 25, "valid")
plt.semilogx(rates[12 : 12 + len(smooth)], smooth)
plt.gca().set(xlabel="learning rate", ylabel="loss, mean of 25 steps")
plt.savefig(picture)
print(f"lowest loss {smooth.min():.3f} at the learning rate {rates[12 + smooth.argmin()]:.2g}")
