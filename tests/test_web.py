"""The page of `tinyconv export --to web` answers in Chromium as `tinyconv predict` does."""

import json
import os
import shutil
from pathlib import Path

import browser
import keras
import numpy as np
import PIL
import pytest
from conftest import command
from PIL import Image, ImageCms
from sklearn.datasets import load_sample_images

from tinyconv import api, data, exporters, prediction, trained
from tinyconv.errors import InputError
from tinyconv.exporters import About, engine

MESSAGE = "document.getElementById('message').textContent"
PHOTO = Image.fromarray(load_sample_images().images[1])  # a flower, 640x427
NAMES = ("a <b>", "ß & c", "d", "e", "f", "g")


@pytest.fixture(scope="session")
def runtime():
    for package in exporters.formats()["web"].packages:
        pytest.importorskip(package, reason="it comes with tinyconv[export]")
    given = os.environ.get("TINYCONV_ONNXRUNTIME_WEB")
    found = engine.find(Path(given) if given else None)
    if found.folder is None:
        pytest.skip("onnxruntime-web is not here, and npm does not fetch it")
    return found.folder


@pytest.fixture(scope="session")
def written(runtime, tmp_path_factory):
    """The page of a shipped net, and what the command prints."""
    path = tmp_path_factory.mktemp("pages") / "a page"
    arguments = ("cifar10_tiny_half", "--to", "web", "--out", path, "--images", 8)
    out, _ = command("export", *arguments, "--runtime", runtime)
    return path, out


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    if browser.CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    page = browser.Browser(tmp_path_factory.mktemp("profile"), "--use-fake-device-for-media-stream")
    yield page
    page.close()


@pytest.fixture
def visit(chromium):
    """A function that serves a folder and opens the page in it, up to its first message."""
    servers = []

    def opened(folder):
        server, address = browser.serve(folder)
        servers.append(server)
        chromium.open(address)
        chromium.wait(f"location.origin === {address!r} && document.readyState === 'complete'")
        said(chromium, "The net is loaded...")
        return chromium

    yield opened
    for server in servers:
        server.shutdown()
        server.server_close()


def said(page, before):
    """The message of the page after the message `before`."""
    return page.wait(f"{MESSAGE} !== {json.dumps(before)} && {MESSAGE}")


def chosen(page, file):
    """The message after a file was chosen, and the five classes with their probabilities."""
    page.value("document.getElementById('message').textContent = 'waits'")
    page.choose("#file", file)
    message = said(page, "waits")
    items = "[...document.querySelectorAll('li')].map(x => ({...x.dataset}))"
    entries = page.value(f"document.getElementById('answer').hidden ? null : {items}")
    return message, entries and {int(e["index"]): float(e["probability"]) for e in entries}


def seen(page):
    """The pixels (height, width, 3) that the page shows as those the net sees."""
    script = """(() => { const c = document.getElementById('seen');
        return [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]
        })()"""
    height, width, *pixels = page.value(script)
    return np.array(pixels).reshape(height, width, 4)[..., :3]


def swapped_profile():
    """A colour profile in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        profile.replace(b"rXYZ", b"????", 1)
        .replace(b"gXYZ", b"rXYZ", 1)
        .replace(b"????", b"gXYZ", 1)
    )


def transparent(image):
    """A picture with an alpha from 0 to 255, left to right."""
    ramp = np.linspace(0, 255, image.width).round().astype(np.uint8)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(ramp, (image.height, 1))))
    return image


TALL = 0 if int(PIL.__version__.partition(".")[0]) >= 13 else 2  # see resize.js
ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[274] = 6  # the number of the tag of the orientation
FLOWER = PHOTO.crop((150, 50, 480, 380))
PICTURES = {  # name -> picture, options of its file, the largest difference of a pixel
    "net.png": (FLOWER.resize((32, 32)), {}, 0),
    "square.png": (FLOWER, {}, 0),
    "wide.png": (PHOTO, {}, 0),
    "tall.png": (PHOTO.crop((250, 0, 330, 427)), {}, TALL),
    "tall strips.png": (PHOTO.resize((1601, 5003)), {}, TALL),
    "tiny.png": (FLOWER.resize((9, 14)), {}, 0),
    "line.png": (PHOTO.crop((0, 200, 640, 201)), {}, 0),
    "strips.png": (PHOTO.resize((1601, 1203)), {}, 0),
    "grey.png": (FLOWER.convert("L"), {}, 0),
    "black and white.png": (FLOWER.convert("1"), {}, 0),
    "palette.png": (FLOWER.quantize(200), {}, 0),
    "profile.png": (FLOWER, {"icc_profile": swapped_profile()}, 0),
    "alpha.png": (transparent(FLOWER), {}, 1),
    "grey alpha.png": (transparent(FLOWER).convert("LA"), {}, 1),
    "alpha.webp": (transparent(FLOWER), {"lossless": True}, 1),
    "lossless.webp": (FLOWER, {"lossless": True}, 0),
    "plain.jpg": (PHOTO, {"quality": 80}, 2),
    "grey.jpg": (FLOWER.convert("L"), {}, 1),
    "sideways.jpg": (PHOTO, {"exif": ON_ITS_SIDE, "quality": 92}, 2),
}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, (image, options, _) in PICTURES.items():
        image.save(folder / name, **options)
    return [folder / name for name in PICTURES]


def check(page, files, size, records, crop=None):
    """Compare pixels and probabilities on the page with those in Python."""
    for file, record in zip(files, records, strict=True):
        message, answer = chosen(page, file)
        assert answer, message
        off = np.abs(seen(page) - data.read_image(file, size, crop).astype(int)).max()
        assert off <= PICTURES[file.name][2], file.name
        expected = {entry["index"]: entry["probability"] for entry in record["top"]}
        assert answer == pytest.approx(expected, abs=1e-3), file.name
        first = record["top"][0]
        assert message.startswith(f"{file.name}: most likely {first['class']}, ")


@pytest.mark.slow
def test_the_page_answers_as_predict_does(written, visit, pictures):
    page = visit(written[0])
    check(page, pictures, (32, 32), api.predict("cifar10_tiny_half", pictures))
    assert page.value("document.querySelector('h1').textContent") == "cifar10_tiny_half"
    assert "No picture leaves this device." in page.value("document.body.innerText")


def tiny(height, width, activation):
    image = keras.Input((height, width, 3))
    x = keras.layers.Rescaling(1 / 64)(image)
    x = keras.layers.Conv2D(4, 5, 4, activation="relu")(x)
    outputs = keras.layers.Dense(6, activation)(keras.layers.Flatten()(x))
    return keras.Model(image, outputs, name="tiny")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "activation", "crop"),
    [
        (20, 24, None, None),
        (25, 25, "softmax", data.Crop(0.9, "bilinear")),
        (32, 32, None, data.Crop(0.95, "bicubic")),
    ],
)
def test_sizes_crops_and_probabilities(
    height, width, activation, crop, runtime, visit, pictures, tmp_path
):
    keras.utils.set_random_seed(1)
    model = tiny(height, width, activation)
    images = np.random.default_rng(0).integers(256, size=(8, height, width, 3), dtype=np.uint8)
    about = About(NAMES, activation == "softmax", crop, runtime)
    exporters.export(model, "web", tmp_path / "page", images, about=about)
    page = visit(tmp_path / "page")
    files = [file for file in pictures if file.suffix == ".png" and "line" not in file.name]
    records = prediction.records(model, files, NAMES, activation == "softmax", crop)
    check(page, files, (height, width), records, crop)
    shown = page.value("document.querySelector('li').innerText")
    assert shown.split("\n")[0] in NAMES  # and is no markup
    assert page.value("document.title") == "tiny"


@pytest.mark.slow
def test_bad_pictures_get_a_sentence(written, visit, pictures, tmp_path):
    page = visit(written[0])
    whole = pictures[2].read_bytes()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    FLOWER.resize((60, 40)).save(tmp_path / "turned.webp", exif=ON_ITS_SIDE)
    Image.new("1", (10_000, 5_001)).save(tmp_path / "large.png")
    unreadable = "cannot be read as a picture; choose a PNG, JPEG or WebP file."
    for name, sentence in {
        "text.png": f"text.png {unreadable}",
        "cut.png": f"cut.png {unreadable}",
        "empty.jpg": f"empty.jpg {unreadable}",
        "deep.png": "deep.png has 16 bits a value; save it with 8 bits.",
        "turned.webp": "turned.webp has an EXIF orientation, which browsers may ignore in a WebP "
        "file; save it as JPEG.",
        "large.png": "The picture has 50,010,000 pixels; at most 50,000,000 are read.",
    }.items():
        assert chosen(page, pictures[0])[1]
        assert chosen(page, tmp_path / name) == (sentence, None)


@pytest.mark.slow
def test_a_drop_the_keyboard_and_the_names_of_what_is_on_the_page(written, visit):
    page = visit(written[0])
    drop = """(bytes => { const data = new DataTransfer();
        if (bytes) data.items.add(new File([bytes], 'dropped.bmp'));
        document.body.dispatchEvent(new DragEvent('drop',
            {dataTransfer: data, bubbles: true, cancelable: true})); })"""
    page.value(f"{drop}('text')")
    assert said(page, "Ready.").startswith("dropped.bmp cannot be read as a picture")
    page.value(f"{drop}()")
    page.wait(f"{MESSAGE}.startsWith('What was dropped is not a file')")
    reached = []
    for _ in range(2):
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        reached.append(page.value("document.activeElement.id"))
    assert reached == ["file", "start"]
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if "role" in n}
    assert named >= {("button", "Choose a picture"), ("button", "Use the camera")}
    assert "status" in {role for role, _ in named}


@pytest.mark.slow
def test_the_camera(written, visit):
    page = visit(written[0])
    origin = page.value("location.origin")
    start = "document.getElementById('start').click()"
    for setting in ("denied", "granted"):
        permission = {"permission": {"name": "camera"}, "setting": setting, "origin": origin}
        page.call("Browser.setPermission", **permission)
        before = page.value(MESSAGE)
        page.value(start)
        message = said(page, before)
        expected = "The camera was not allowed" if setting == "denied" else "The camera is on."
        assert message.startswith(expected)
    page.value("document.getElementById('take').click()")
    assert said(page, message).startswith("The picture of the camera: most likely ")
    page.value("document.getElementById('stop').click()")
    assert page.value(MESSAGE) == "The camera is off."
    assert page.value("document.getElementById('video').srcObject") is None


@pytest.mark.slow
def test_nothing_leaves_the_page(written, visit):
    """The page's policy refuses every address but its own server's."""
    page = visit(written[0])
    server, elsewhere = browser.serve(written[0])
    ask = "fetch({!r}, {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
    own = page.value("location.origin")
    assert page.value(ask.format(own)) == "sent"
    assert page.value(ask.format(elsewhere)) == "refused"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_changed_or_missing_file_gets_a_sentence(written, visit, tmp_path):
    for change in (lambda path: path.write_bytes(b"other"), Path.unlink):
        folder = tmp_path / change.__name__.strip("<>")
        shutil.copytree(written[0], folder)
        change(folder / "model.onnx")
        said_now = visit(folder).value(MESSAGE)
        assert said_now.startswith("model.onnx cannot be loaded"), said_now
    page = visit(written[0])
    page.open((written[0] / "index.html").as_uri())
    page.wait("location.protocol === 'file:' && document.readyState === 'complete'")
    assert "only from a web server: python -m http.server" in page.value(MESSAGE)


@pytest.mark.slow
def test_a_page_that_loads_the_runtime_from_elsewhere(runtime, visit, tmp_path, monkeypatch):
    """As from the CDN: allowed by the policy, checked by the digest."""
    dist = tmp_path / "cdn" / "npm" / f"onnxruntime-web@{engine.VERSION}" / "dist"
    dist.mkdir(parents=True)
    for name in engine.DIGESTS:
        shutil.copyfile(runtime / name, dist / name)
    server, address = browser.serve(tmp_path / "cdn")
    monkeypatch.setattr(engine, "CDN", address)
    monkeypatch.setattr(engine, "find", lambda _: engine.Engine(None))
    images = np.random.default_rng(0).integers(256, size=(8, 20, 24, 3), dtype=np.uint8)
    exporters.export(tiny(20, 24, None), "web", tmp_path / "page", images, about=About(NAMES))
    page = visit(tmp_path / "page")
    assert page.value(MESSAGE) == "Ready."
    assert f"onnxruntime-web comes from {address}" in page.value("document.body.innerText")
    was = (dist / engine.SCRIPT).stat().st_mtime
    (dist / engine.SCRIPT).write_text("export const other = 1;")
    os.utime(dist / engine.SCRIPT, (was, was))
    assert f"{engine.SCRIPT} cannot be loaded" in visit(tmp_path / "page").value(MESSAGE)
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_folder_and_what_the_command_prints(written):
    path, out = written
    facts = json.loads((path / "model.json").read_text(encoding="utf-8"))
    assert facts["classes"][:2] == ["airplane", "automobile"] and facts["height"] == 32
    for file in (facts["model"], facts["engine"]["script"], facts["engine"]["wasm"]):
        assert engine.integrity(path / file["url"]) == file["integrity"]
    assert f"python -m http.server --directory '{path}'" in out
    assert "100.00% of 8 images in the same class as by Keras" in out


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder without node_modules, an empty cache, and no npm."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    return tmp_path


def put_package(folder, version="1.2.3"):
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))
    for name in engine.DIGESTS:
        (folder / "dist" / name).write_text(name)


def test_the_runtime_is_found(bare, capsys):
    assert engine.find(None) == engine.Engine(None)
    assert f"the page will load it from {engine.CDN}" in capsys.readouterr().err
    address = f"{engine.CDN}/npm/onnxruntime-web@{engine.VERSION}/dist/{engine.WASM}"
    assert engine.Engine(None).put(bare)["wasm"]["url"] == address
    put_package(bare / "node_modules" / "onnxruntime-web")
    found = engine.find(None)
    assert found.version == "1.2.3" and (found.folder / engine.WASM).is_file()
    for given in (bare / "node_modules/onnxruntime-web", found.folder):
        assert engine.find(given).version == "1.2.3"
    with pytest.raises(InputError, match=r"lacks ort.*; name a folder of the npm package"):
        engine.find(bare)


def test_npm_that_fails_or_brings_other_files_is_not_trusted(bare, monkeypatch, capsys):
    npm = bare / "npm"
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    put_package(bare / "package")
    for script in ("exit 1", f"tar czf a.tgz -C '{bare}' package"):
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
        assert engine.find(None).folder is None
    assert "npm did not fetch it" in capsys.readouterr().err
    monkeypatch.setattr(
        engine, "DIGESTS", {n: engine.integrity(bare / "package/dist" / n) for n in engine.DIGESTS}
    )
    assert engine.find(None).folder == bare / "home/tinyconv/onnxruntime-web-1.30.0"
    assert not list((bare / "home/tinyconv").glob(".partial*"))


def test_a_runtime_is_for_the_page_alone(tmp_path):
    _, said = command("export", "x.keras", "--to", "savedmodel", "--runtime", tmp_path, status=2)
    assert "--runtime is for --to web, not for --to savedmodel." in said


def test_the_crop_of_the_page_is_that_of_predict(monkeypatch):
    opened = trained.Trained(tiny(8, 8, None), None, None)
    from tinyconv.exporters import web

    sizes = web._size(opened.model, About(crop=data.Crop(0.95, "bicubic")))
    assert sizes == {"height": 8, "width": 8, "shorter": 8, "interpolation": "bicubic"}
