"""The classes of published weights, in the order of their outputs."""

import json
from collections import Counter

from tinyconv.weights import fetch

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
# The file that `keras.applications.imagenet_utils` reads, where it keeps it.
IMAGENET = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
IMAGENET_DIGEST = "md5:c2c37ea517e94d9795004a39431a14cb"


def read(data: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of the classes of `data`: "cifar10", "cifar100" or "imagenet".

    Two classes of ImageNet have the same name as another. Their names end with their WordNet ID.

    Returns:
        The names, and a dict from the usual names of class folders to these names. The folders of
        ImageNet have WordNet IDs as names, such as n01440764.

    Raises:
        InputError: the names of ImageNet are not in the cache and cannot be downloaded.
    """
    if data != "imagenet":
        return tuple({"cifar10": CIFAR10, "cifar100": CIFAR100}[data].split()), {}
    file = fetch.fetch("imagenet_class_index", IMAGENET, IMAGENET_DIGEST)
    index = json.loads(file.read_text(encoding="utf-8"))
    classes = [index[str(number)] for number in range(1000)]  # WordNet ID and name
    counts = Counter(name for _, name in classes)
    folders = {i: name if counts[name] == 1 else f"{name} ({i})" for i, name in classes}
    return tuple(folders.values()), folders
