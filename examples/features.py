"""Turn images into features, and find the nearest neighbour of each:

python examples/features.py IMAGE IMAGE...
"""

import sys

import keras
import numpy as np

import tinyconv

model = tinyconv.create_model("cifar10_tiny", num_classes=0, pretrained=True)
files = sys.argv[1:]
size = model.input_shape[1:3]
images = np.stack(
    [
        keras.utils.img_to_array(keras.utils.load_img(f, target_size=size, interpolation="bicubic"))
        for f in files
    ]
)
features = model.predict(images, verbose=0)  # (images, 128)
print(f"{features.shape[0]} images, {features.shape[1]} features each")

unit = features / np.linalg.norm(features, axis=1, keepdims=True)
similarity = unit @ unit.T  # cosine: 1 is the same direction
np.fill_diagonal(similarity, -1)
for file, row in zip(files, similarity, strict=True):
    print(f"{file}: nearest is {files[row.argmax()]}, cosine {row.max():.3f}")
