"""The table of all nets, with the weights that are published for them."""

from __future__ import annotations

from functools import partial
from typing import Any

from tinyconv.facts import Accuracy, Net, Weights


def _cifar10(percent: float, epochs: int | None = None) -> Accuracy:
    return Accuracy("cifar10", percent, epochs=epochs)


_cifar10_tiny = partial(
    Net,
    ships=True,
    family="cifar10_tiny",
    recipe="cifar10_tiny",
    source="https://github.com/soyflourbread/cifar10-tiny",
    licence="MIT",
)


_CIFAR10_STD = (0.2023, 0.1994, 0.2010)
_OSMR = ((0.4914, 0.4822, 0.4465), _CIFAR10_STD)  # also for CIFAR-100
_CHENYAOFO_C100 = ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))


def _resnet(
    name: str,
    parameters: int,
    macs: int,
    first: tuple[float, float],
    later: tuple[float, float],
    digests: tuple[str, str],
    *more: Weights,
) -> Net:
    """A ResNet with the accuracies of its authors' first and later weights, in percent.

    Each pair is for CIFAR-10 and CIFAR-100. `digests` has the beginning of the sha256 of the later
    weights.
    """
    folder = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"
    data = zip(("cifar10", "cifar100"), (10, 100), (None, _CHENYAOFO_C100), strict=True)
    weights = tuple(
        Weights(
            f"chenyaofo_c{classes}",
            f"{folder}/{where}_{name}-{digest}.pt",
            Accuracy(where, percent),
            "BSD-3-Clause",
            f"sha256:{digest}",
            mean_std,
            classes,
        )
        for (where, classes, mean_std), percent, digest in zip(data, later, digests, strict=True)
    )
    return Net(
        name,
        "resnet",
        parameters,
        macs,
        recipe="resnet",
        source="https://github.com/chenyaofo/CIFAR-pretrained-models",
        licence="BSD-3-Clause",
        published=(_cifar10(first[0]), Accuracy("cifar100", first[1])),
        weights=weights + more,
        ships=name == "resnet20",
    )


def _osmr(
    data: str, num_classes: int, percent: float, release: str, error: str, sha1: str
) -> Weights:
    """A ResNet-20 of imgclsmob. `error` is its error in the name of the file."""
    folder = "https://github.com/osmr/imgclsmob/releases/download"
    return Weights(
        f"osmr_c{num_classes}",
        f"{folder}/{release}/resnet20_{data}-{error}-{sha1[:8]}.pth.zip",
        Accuracy(data, percent),
        "MIT",
        f"sha1:{sha1}",
        _OSMR,
        num_classes,
    )


def _timm(
    name: str,
    family: str,
    parameters: int,
    macs: int,
    at_160: float,
    at_192: float,
    commit: str = "main",
    sha256: str | None = None,
    **more: Any,
) -> Net:
    repository = f"https://huggingface.co/timm/{name}.r160_in1k"
    accuracy = Accuracy("imagenet", at_160, 160)
    return Net(
        name,
        family,
        parameters,
        macs,
        recipe="timm",
        source=repository,
        licence="Apache-2.0",
        published=(accuracy, Accuracy("imagenet", at_192, 192)),
        num_classes=1000,
        input_shape=(160, 160, 3),
        crop=0.95,
        weights=(
            Weights(
                "r160_in1k",
                f"{repository}/resolve/{commit}/model.safetensors",
                accuracy,
                "Apache-2.0",
                sha256 and f"sha256:{sha256}",
                num_classes=1000,
            ),
        ),
        **more,
    )


NETS = {
    net.name: net
    for net in (
        _cifar10_tiny(
            "cifar10_tiny",
            parameters=170_282,
            macs=34_768_128,
            published=(_cifar10(77.97, epochs=10), _cifar10(86.47, epochs=100)),
        ),
        _cifar10_tiny(
            "cifar10_tiny_half", parameters=48_794, macs=10_044_032, published=(_cifar10(81),)
        ),
        Net(
            "tiniest",
            family="tiniest",
            parameters=97_530,
            macs=43_878_176,
            recipe="tiniest",
            source="https://github.com/xvel/cifar10-tiniest",
            licence="none given; rebuilt from a description",
            published=(_cifar10(94.4, epochs=200), _cifar10(94.6, epochs=300)),
            weights=(
                Weights(
                    "scio_c10",
                    "https://raw.githubusercontent.com/ThalesGroup/scio/"
                    "873cb19d76e93d6fbf0804e11ed8d328104b257a/tiniest.pt",
                    _cifar10(94.63, epochs=300),
                    "MIT",
                    "sha256:1a5c6eed155922eac8df2511573408c23421cf8be8726070398f652e48d71e98",
                ),
            ),
            ships=True,
        ),
        _resnet(
            "resnet20",
            272_474,
            40_813_184,
            (91.65, 66.61),
            (92.60, 68.83),
            ("4118986f", "23dac2f1"),
            _osmr(
                "cifar10", 10, 94.03, "v0.0.163", "0597", "9b0024ac4c2f374cde2c5052e0d0344a75871cdb"
            ),
            _osmr(
                "cifar100",
                100,
                70.36,
                "v0.0.180",
                "2964",
                "a5322afed92fa96cb7b3453106f73cf38e316151",
            ),
        ),
        _resnet(
            "resnet32",
            466_906,
            69_124_736,
            (92.81, 68.74),
            (93.53, 70.16),
            ("ef93fc4d", "84213ce6"),
        ),
        _resnet(
            "resnet44",
            661_338,
            97_436_288,
            (93.24, 69.49),
            (94.01, 71.63),
            ("2a3cabcb", "ffe32858"),
        ),
        _resnet(
            "resnet56",
            855_770,
            125_747_840,
            (93.69, 70.79),
            (94.37, 72.63),
            ("187c023a", "f2eff4c8"),
        ),
        _timm("test_byobnet", "byobnet", 456_856, 31_142_144, 45.85, 46.69),
        _timm("test_convnext", "convnext", 272_128, 31_228_800, 47.76, 48.53, smallest=32),
        _timm("test_convnext2", "convnext", 477_800, 50_803_200, 53.51, 53.62, smallest=32),
        _timm("test_convnext3", "convnext", 468_840, 49_830_400, 53.33, 54.56, smallest=32),
        _timm(
            "test_efficientnet",
            "efficientnet",
            356_196,
            57_304_256,
            46.45,
            47.16,
            sha256="31afcf8fcddb526b806bb161d62685d05ff8583d5a9a0162f6c62cd94621fc75",
        ),
        _timm(
            "test_efficientnet_evos",
            "efficientnet",
            357_292,
            57_304_256,
            46.50,
            46.92,
            commit="dc47241a3fde48cc188a07947056d8b6004add7d",
        ),
        _timm(
            "test_efficientnet_gn",
            "efficientnet",
            356_196,
            57_304_256,
            43.88,
            44.45,
            sha256="a5e0d851ad1429971034ba5e662ed054fdc95f83afa0305804a20c7b09d35663",
        ),
        _timm(
            "test_efficientnet_ln",
            "efficientnet",
            356_196,
            57_304_256,
            43.92,
            44.54,
            sha256="c14bdb1a89d3b838ea802ac7aed127b3bc3a30b3e3f459049d91f15d0dbdc31b",
        ),
        _timm("test_nfnet", "nfnet", 383_080, 285_058_560, 47.62, 48.30),
        _timm(
            "test_resnet",
            "resnet_d",
            469_688,
            102_547_200,
            41.58,
            42.38,
            interpolation="bilinear",
            sha256="c52200aefb47604867581db10e1e5c807bdd851b63ed7f912ae63447e2eda073",
        ),
        _timm(
            "test_vit",
            "vit",
            371_240,
            29_800_960,
            40.95,
            41.98,
            multiple=16,
            commit="44325042d0accc03698a2493029ad30791a56d32",
        ),
        _timm(
            "test_vit2",
            "vit",
            455_720,
            38_074_880,
            42.23,
            43.45,
            multiple=16,
            commit="888bbef20008ba79ea0f4a97dc491bc8c7330cc8",
        ),
        _timm(
            "test_vit3",
            "vit",
            930_280,
            76_404_480,
            56.89,
            58.12,
            multiple=16,
            sha256="d0d323561bc479799ffc8aa9df40b4e1530fddb2fd2f3cdaf57c54a266d6aef8",
        ),
    )
}
