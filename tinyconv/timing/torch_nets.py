"""The nets in PyTorch, for comparison. timm has its own nets, and this module has those for CIFAR.

The weights of the nets for CIFAR have the names of the original files. The nets take images
(B, 3, H, W). PyTorch is fastest on a CPU if these are in channels-last memory format.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from tinyconv import registry
from tinyconv.errors import InputError


def get(name: str) -> Callable[..., Any]:
    """Get the function that builds a net in PyTorch, with random weights.

    Args:
        name: a net in `tinyconv.list_models()`.

    Returns:
        A function that takes `num_classes` and returns a `torch.nn.Module`. The module takes
        normalized images (B, 3, H, W) and returns logits.

    Raises:
        InputError: the net has no original in PyTorch, or its library cannot be imported.
    """
    net = registry.get(name)
    for prefix, importer in IMPORTERS.items():
        if net.source.startswith(prefix):
            try:
                return importer(name)
            except (ImportError, RuntimeError) as error:  # a torchvision for another PyTorch
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                packages = "torch torchvision timm" if importer is _timm else "torch"
                raise InputError(
                    f"The original of {name} cannot be imported ({what}): pip install {packages}."
                ) from error
    raise InputError(f"No original of {name} is known to compare with; leave out --compare.")


def _timm(name: str) -> Callable[..., Any]:
    import timm

    return partial(timm.create_model, name)


def _cifar10_tiny(name: str) -> Callable[..., Any]:
    import torch
    from torch import nn

    class Norm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)

    class Bottleneck(nn.Module):
        def __init__(self, width: int, multiplier: int):
            super().__init__()
            wide = multiplier * width
            self.branch = nn.Sequential(
                nn.Conv2d(width, wide, 3, padding=1, groups=width),
                Norm(wide, eps=1e-3),
                nn.GELU(),
                nn.Dropout(0.5),
                nn.Conv2d(wide, width, 1),
            )
            self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

        def forward(self, x):
            return x + self.scale * self.branch(x)

    def downscale(width: int, wider: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, wider, 1), nn.MaxPool2d(2), Norm(wider, eps=1e-6))

    def network(a: int, b: int, c: int, num_classes: int = 10) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, a, 4, padding="same"),
            Norm(a, eps=1e-3),
            *(Bottleneck(a, 2) for _ in range(2)),
            downscale(a, b),
            *(Bottleneck(b, 4) for _ in range(4)),
            downscale(b, c),
            *(Bottleneck(c, 2) for _ in range(2)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(c, eps=1e-3),
            nn.ReLU(),
            nn.Linear(c, num_classes),
        )

    return partial(network, *((16, 32, 64) if name.endswith("half") else (32, 64, 128)))


def _tiniest(name: str) -> Callable[..., Any]:
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.ln = nn.LayerNorm(width)

        def forward(self, x):
            return self.ln(x.movedim(1, -1)).movedim(-1, 1)

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            quarter = width // 4
            self.rs = nn.Parameter(torch.ones(1, width, 1, 1))
            self.dwconv1 = nn.Conv2d(quarter, quarter, 3, padding=1, groups=quarter)
            self.dwconv2 = nn.Conv2d(quarter, quarter, 7, padding=3, groups=quarter)
            self.blur = nn.AvgPool2d(3, stride=1, padding=1)
            self.dwconv3 = nn.Conv2d(quarter, quarter, 7, padding=9, dilation=3, groups=quarter)
            self.ln = Norm(width)
            self.fc1 = nn.Conv2d(width, 2 * width, 1)
            self.fc2 = nn.Conv2d(width, width, 1)

        def forward(self, x):
            same, near, far, wide = x.chunk(4, dim=1)
            views = (same, self.dwconv1(near), self.dwconv2(far), self.dwconv3(self.blur(wide)))
            a, b = self.fc1(self.ln(torch.cat(views, dim=1))).chunk(2, dim=1)
            return self.rs * x + self.fc2(torch.tanh(torch.exp(a)) * a * b)

    class Tiniest(nn.Module):
        def __init__(self, num_classes: int = 10):
            super().__init__()
            self.conv1, self.ln1 = nn.Conv2d(3, 48, 3, padding=1), Norm(48)
            self.l1, self.l2, self.l3 = (Block(48) for _ in range(3))
            self.dsconv = nn.Conv2d(48, 80, 4, stride=2, padding=1, groups=16)
            self.ln2 = Norm(80)
            self.l4, self.l5, self.l6 = (Block(80) for _ in range(3))
            self.fc = nn.Linear(80, num_classes)

        def forward(self, x):
            x = self.l3(self.l2(self.l1(self.ln1(self.conv1(x)))))
            x = self.l6(self.l5(self.l4(self.ln2(self.dsconv(x)))))
            return self.fc(x.mean(dim=(2, 3)))

    return Tiniest


def _resnet(name: str) -> Callable[..., Any]:
    from torch import nn

    def conv(inner: int, outer: int, kernel: int, stride: int) -> nn.Conv2d:
        return nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int):
            super().__init__()
            self.conv1, self.bn1 = conv(inner, outer, 3, stride), nn.BatchNorm2d(outer)
            self.conv2, self.bn2 = conv(outer, outer, 3, 1), nn.BatchNorm2d(outer)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = (
                nn.Sequential(conv(inner, outer, 1, stride), nn.BatchNorm2d(outer))
                if stride > 1
                else nn.Identity()
            )

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    class ResNet(nn.Module):
        def __init__(self, blocks: int, num_classes: int = 10):
            super().__init__()
            self.conv1, self.bn1, self.relu = conv(3, 16, 3, 1), nn.BatchNorm2d(16), nn.ReLU()
            self.layer1, self.layer2, self.layer3 = (
                nn.Sequential(
                    Block(inner, outer, stride),
                    *(Block(outer, outer, 1) for _ in range(blocks - 1)),
                )
                for inner, outer, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
            )
            self.fc = nn.Linear(64, num_classes)

        def forward(self, x):
            x = self.relu(self.bn1(self.conv1(x)))
            return self.fc(self.layer3(self.layer2(self.layer1(x))).mean(dim=(2, 3)))

    return partial(ResNet, (int(name.removeprefix("resnet")) - 2) // 6)


# The beginning of a net's `source` -> a function from the net's name to the function of `get`.
IMPORTERS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "https://huggingface.co/timm/": _timm,
    "https://github.com/soyflourbread/cifar10-tiny": _cifar10_tiny,
    "https://github.com/xvel/cifar10-tiniest": _tiniest,
    "https://github.com/chenyaofo/": _resnet,
}
