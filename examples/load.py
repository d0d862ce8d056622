"""Ask a trained model about images, with TensorFlow alone:

python examples/load.py models/cifar10_tiny/model.keras IMAGE...
"""

import json
import sys
from pathlib import Path

import tensorflow as tf

file, *images = sys.argv[1:]
model = tf.keras.models.load_model(file)
names = json.loads(Path(file).with_name("report.json").read_text())["classes"]

for path in images:
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    image = tf.image.resize(image, model.input_shape[1:3], method="bicubic", antialias=True)
    logits = model(tf.clip_by_value(image, 0, 255)[None])  # raw RGB in 0..255
    probabilities = tf.nn.softmax(logits)[0].numpy()
    best = probabilities.argmax()
    print(f"{path}: {names[best]}, {probabilities[best]:.1%}")
