"""Tell images of the classes that a model knows from others, by four scores:

python examples/outliers.py [KNOWN [OTHERS]]   (data as for train.py: cifar10, digits)
"""

import sys

import keras
import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import tinyconv
from tinyconv import data

known, others = [*sys.argv[1:], *("cifar10", "digits")[len(sys.argv) - 1 :]]
model = tinyconv.create_model("cifar10_tiny", pretrained=True)
both = keras.Model(model.input, [model.layers[-2].output, model.output])

sets = [data.load(name, model.input_shape[1:3]) for name in (known, others)]
inside, outside = (both.predict(s.test.images[:1000], verbose=0) for s in sets)
seen, _ = both.predict(sets[0].train.images[:5000], verbose=0)
neighbours = NearestNeighbors(n_neighbors=min(10, len(seen))).fit(seen)

scores = {  # the larger, the more the image is like what the model knows
    "largest probability": lambda features, logits: softmax(logits, axis=1).max(axis=1),
    "largest logit": lambda features, logits: logits.max(axis=1),
    "energy": lambda features, logits: logsumexp(logits, axis=1),
    "nearness to 10 neighbours": lambda features, logits: (
        -neighbours.kneighbors(features)[0][:, -1]
    ),
}
truth = np.repeat([1, 0], [len(inside[0]), len(outside[0])])
for name, score in scores.items():
    area = roc_auc_score(truth, np.concatenate([score(*inside), score(*outside)]))
    print(f"{name:<26}{area:.3f} of 1 (0.5 is chance)")
