"""Fine-tune a trained net on a folder with one subfolder of images per class:

python examples/finetune.py photos mine.keras [EPOCHS]
"""

import json
import sys
from pathlib import Path

import keras

import tinyconv

folder, target, epochs = (*sys.argv[1:], "10")[:3]
train, test = keras.utils.image_dataset_from_directory(
    folder, image_size=(32, 32), batch_size=16, validation_split=0.2, subset="both", seed=0
)
classes = train.class_names
body = tinyconv.create_model("cifar10_tiny", num_classes=0, pretrained=True)
head = keras.layers.Dense(len(classes))
model = keras.Model(body.input, head(body.output))

for trainable, learning_rate in ((False, 1e-2), (True, 3e-4)):  # the new head first, then all
    for layer in model.layers:
        layer.trainable = trainable or layer is head
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train, validation_data=test, epochs=int(epochs), verbose=2)
model.save(target)
Path(target).with_suffix(".json").write_text(json.dumps(classes))
