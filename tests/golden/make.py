"""Writes the golden files: what the nets answer in PyTorch with weights that anyone can make again.

    pip install torch && python tests/golden/make.py

The nets are written here in PyTorch from their description; the weights are drawn by `weights`, so
a file holds no more than the keys and shapes of the state dict, images and logits.
"""

import zlib
from pathlib import Path

import numpy as np

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


def tiniest():
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.ln = nn.LayerNorm(width)  # epsilon 1e-5

        def forward(self, x):
            return self.ln(x.movedim(1, -1)).movedim(-1, 1)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            part = width // 4
            self.rs = nn.Parameter(torch.ones(1, width, 1, 1))
            self.dwconv1 = nn.Conv2d(part, part, 3, padding=1, groups=part)
            self.dwconv2 = nn.Conv2d(part, part, 7, padding=3, groups=part)
            self.dwconv3 = nn.Conv2d(part, part, 7, padding=9, dilation=3, groups=part)
            self.ln = Norm(width)
            self.fc1 = nn.Conv2d(width, 2 * width, 1)
            self.fc2 = nn.Conv2d(width, width, 1)

        def forward(self, x):
            same, near, far, wide = x.chunk(4, dim=1)
            wide = nn.functional.avg_pool2d(wide, 3, stride=1, padding=1)
            views = same, self.dwconv1(near), self.dwconv2(far), self.dwconv3(wide)
            a, b = self.fc1(self.ln(torch.cat(views, dim=1))).chunk(2, dim=1)
            return x * self.rs + self.fc2(torch.tanh(torch.exp(a)) * a * b)

    class Tiniest(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.ln1 = nn.Conv2d(3, 48, 3, padding=1), Norm(48)
            self.l1, self.l2, self.l3 = Block(48), Block(48), Block(48)
            self.dsconv = nn.Conv2d(48, 80, 4, stride=2, padding=1, groups=16)
            self.ln2 = Norm(80)
            self.l4, self.l5, self.l6 = Block(80), Block(80), Block(80)
            self.fc = nn.Linear(80, 10)

        def forward(self, images):
            x = self.ln1(self.conv1(images / 255 - 0.5))
            x = self.ln2(self.dsconv(self.l3(self.l2(self.l1(x)))))
            return self.fc(self.l6(self.l5(self.l4(x))).mean((2, 3)))

    return Tiniest()


def resnet(blocks, num_classes, mean, std):
    import torch
    from torch import nn

    def conv(before, width, kernel, stride):
        return nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1, self.bn1 = conv(before, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = conv(width, width, 3, 1), nn.BatchNorm2d(width)
            self.downsample = nn.Sequential()
            if stride == 2:
                self.downsample.extend([conv(before, width, 1, stride), nn.BatchNorm2d(width)])

        def forward(self, x):
            out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (out + self.downsample(x)).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, 16, 3, 1), nn.BatchNorm2d(16)
            before = 16
            for stage, width in ((1, 16), (2, 32), (3, 64)):
                layers = []
                for number in range(blocks):
                    layers.append(Block(before, width, 2 if stage > 1 and number == 0 else 1))
                    before = width
                setattr(self, f"layer{stage}", nn.Sequential(*layers))
            self.fc = nn.Linear(64, num_classes)

        def forward(self, images):
            x = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
            x = self.bn1(self.conv1(x)).relu()
            return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return ResNet()


CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100 = (0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)
NETS = {  # file -> net in PyTorch; a number after "-" is the number of classes
    "tiniest": tiniest,
    "resnet20": lambda: resnet(3, 10, *CIFAR10),
    "resnet20-100": lambda: resnet(3, 100, *CIFAR100),
    "resnet56": lambda: resnet(9, 10, *CIFAR10),
}


def answer(model, batch):
    """Logits of a PyTorch model for images (N, H, W, 3) in uint8."""
    import torch

    with torch.no_grad():
        return model.eval()(torch.from_numpy(batch).movedim(-1, 1).float()).numpy()


def main():
    import torch

    for name, build in NETS.items():
        model = build()
        tensors = {k: t for k, t in model.state_dict().items() if t.is_floating_point()}
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        state = {key: torch.from_numpy(array) for key, array in weights(shapes).items()}
        model.load_state_dict(state)
        np.savez_compressed(
            HERE / f"{name}.npz",
            keys=list(shapes),
            shapes=[" ".join(map(str, shape)) for shape in shapes.values()],
            logits=answer(model, images(8)),
        )


if __name__ == "__main__":
    main()
