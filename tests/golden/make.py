"""Writes the golden files: what the nets answer in PyTorch with weights that anyone can make again.

    pip install torch && python tests/golden/make.py

The nets in PyTorch are those of `tinyconv.timing.torch_nets`. The weights are drawn by `weights`,
so a file holds no more than the keys and shapes of the state dict, images and logits.
"""

import zlib
from pathlib import Path

import numpy as np

from tinyconv.timing import torch_nets

HERE = Path(__file__).parent


def weights(shapes):
    """Random weights of a size that keeps activations near one, by name and shape alone."""
    state = {}
    for key, shape in shapes.items():
        draws = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        fan_in = np.prod(shape[1:])
        if key.endswith("running_var"):
            state[key] = 0.5 + abs(draws)
        elif fan_in > 1 and shape[0] != 1:
            state[key] = draws * np.sqrt(2 / fan_in)
        else:
            state[key] = draws / 10 + (not key.endswith(("bias", "running_mean")))
        state[key] = state[key].astype(np.float32)
    return state


def images(count, size=32):
    return np.random.RandomState(0).randint(256, size=(count, size, size, 3)).astype(np.uint8)


CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100 = (0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)
HALVES = (0.5, 0.5, 0.5), (1, 1, 1)
NETS = {  # file -> net, number of classes, mean and standard deviation of the normalization
    "tiniest": ("tiniest", 10, *HALVES),
    "resnet20": ("resnet20", 10, *CIFAR10),
    "resnet20-100": ("resnet20", 100, *CIFAR100),
    "resnet56": ("resnet56", 10, *CIFAR10),
}


def answer(model, batch, mean, std):
    """Logits of a PyTorch model for images (N, H, W, 3) in uint8, normalized."""
    import torch

    x = torch.from_numpy(batch).movedim(-1, 1) / 255
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        return model.eval()(x).numpy()


def main():
    import torch

    for name, (net, num_classes, mean, std) in NETS.items():
        model = torch_nets.get(net)(num_classes=num_classes)
        tensors = {k: t for k, t in model.state_dict().items() if t.is_floating_point()}
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        state = {key: torch.from_numpy(array) for key, array in weights(shapes).items()}
        model.load_state_dict(state)
        np.savez_compressed(
            HERE / f"{name}.npz",
            keys=list(shapes),
            shapes=[" ".join(map(str, shape)) for shape in shapes.values()],
            logits=answer(model, images(8), mean, std),
        )


if __name__ == "__main__":
    main()
