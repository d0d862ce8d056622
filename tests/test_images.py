import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image

pytestmark = pytest.mark.slow
IMAGES = ROOT / "images"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    run("images/draw.py", "--out", out)
    return {path.name: path for path in out.iterdir()}


def test_every_picture_is_drawn(drawn):
    names = ("nn", "bottleneck", "downscale", "augment", "acc", "loss")
    assert set(drawn) == {f"{name}.png" for name in names}
    for path in drawn.values():
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 500 and 0.005 < (pixels < 250).mean() < 0.8, path.name


def test_pictures_in_the_repository_show_the_nets_of_today(drawn):
    for name, path in drawn.items():
        kept, today = Image.open(IMAGES / name), Image.open(path)
        assert kept.text["Description"] == today.text["Description"], f"run images/draw.py: {name}"
        assert len(today.text["Description"]) == 64


def test_the_picture_of_augmentations_shows_those_of_today(drawn):
    """Averages of 8x8 pixels right of the labels: other fonts or roundings do not matter."""
    pictures = (Image.open(path / "augment.png") for path in (IMAGES, drawn["augment.png"].parent))
    kept, today = (picture.convert("RGB").crop((300, 0, *picture.size)) for picture in pictures)
    assert kept.size == today.size
    apart = abs(np.subtract(*(np.asarray(x.reduce(8), int) for x in (kept, today))))
    assert apart.max() <= 2, "run images/draw.py"
