"""Published weights, fetched from a server on this machine in place of their addresses."""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import tempfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import run
from golden import make
from PIL import Image
from safetensors.numpy import load, save
from test_weights import CIFAR10, PUBLISHED, golden

from tinyconv import api, cli, create_model, data, registry, trained, weights
from tinyconv.errors import InputError
from tinyconv.exporters.samples import choose
from tinyconv.weights import check, classes, fetch

BYOBNET = "test_byobnet.r160_in1k"  # its sha256 is not known: the server states it
SCRIPT = "from tinyconv.cli import main; main()"


class Server:
    """Answers each path by a function, and keeps the headers of each request."""

    def __init__(self):
        self.answers, self.seen = {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.seen.append((self.path, dict(self.headers)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server.answers.get(self.path, lambda handler: handler.send_error(404))(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "http://{}:{}".format(*self.server.server_address)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def give(self, path, content, length=None, **headers):
        def answer(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(length or len(content)))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(content)

        self.answers[path] = answer

    def redirect(self, path, to, **headers):
        def answer(handler):
            handler.send_response(302)
            handler.send_header("Location", to)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()

        self.answers[path] = answer


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TINYCONV_WEIGHTS_MIRROR", server.address)
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.server.shutdown()
    server.server.server_close()


def path_of(name):
    return re.sub("^https://[^/]+", "", registry.weights(name).url)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@functools.cache
def published(name):
    """A file with the names and shapes of published weights, and other numbers."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.safetensors"
        weights.save_torch(create_model(registry.get(name).name), file)
        return file.read_bytes()


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "keras").rglob("*") if path.is_file())


def test_each_row_is_complete():
    names = registry.list_models(pretrained=True)
    published = {net.name for net in registry.NETS.values() if net.source != "tinyconv"}
    assert {name.partition(".")[0] for name in names} == published
    for name in names:
        row = registry.weights(name)
        if row is None:
            assert registry.get(name).name in trained.shipped()
            continue
        assert row.url.startswith("https://")
        assert (
            row.num_classes == {"cifar10": 10, "cifar100": 100, "imagenet": 1000}[row.accuracy.data]
        )
        algorithm, _, digest = (row.digest or "sha256:" + "0" * 64).partition(":")
        assert re.fullmatch("[0-9a-f]+", digest)
        assert len(digest) in {"sha256": (8, 64), "sha1": (40,)}[algorithm]
        if len(digest) == 8:  # torch.hub's rule: the name has the beginning of the digest
            assert row.url.endswith(f"-{digest}.pt")
    assert {net.name for net in registry.NETS.values() if net.ships} == set(trained.shipped())


def test_weights_come_by_the_hub_and_its_redirect(server, tmp_path, monkeypatch):
    monkeypatch.delenv("TINYCONV_WEIGHTS_MIRROR")
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    content = published(BYOBNET)
    other = server.address.replace("127.0.0.1", "localhost")
    stated = f'"{sha256(content)}"'
    server.redirect(path_of(BYOBNET), f"{other}/cdn", X_Linked_Etag=stated)
    server.give("/cdn", content)
    model = create_model(BYOBNET, pretrained=True)
    expected = create_model("test_byobnet")
    weights.load_torch(expected, load(content))
    for one, two in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    (first, hub), (second, cdn) = server.seen
    assert (first, second) == (path_of(BYOBNET), "/cdn")
    assert hub["Authorization"] == "Bearer hf_secret" and "Authorization" not in cdn
    assert files(tmp_path) == [f"{BYOBNET}-{sha256(content)}.safetensors"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert create_model("test_byobnet", 5, pretrained=True).output_shape == (None, 5)
    assert len(server.seen) == 2  # from the cache, without the network


def test_a_mirror_gets_every_address_and_no_token(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("TINYCONV_WEIGHTS_MIRROR", f"{server.address}/mirror/")
    for name in registry.list_models(pretrained=True):
        if registry.weights(name) is not None:
            with pytest.raises(InputError, match=f"{server.address}/mirror/.*HTTP 404"):
                create_model(name, pretrained=True)
            asked, headers = server.seen[-1]
            assert asked == f"/mirror{path_of(name)}" and "Authorization" not in headers


def silent(handler):
    threading.Event().wait(3)


FAILURES = {
    "not there": (lambda s, path, c: None, "HTTP 404 Not Found"),
    "a web page": (
        lambda s, path, c: s.give(path, b"<html>", X_Linked_Etag=sha256(c)),
        "the answer is a web page, as of a proxy",
    ),
    "cut off": (
        lambda s, path, c: s.give(path, c[:5000], len(c), X_Linked_Etag=sha256(c)),
        "cut off after 5,000 of",
    ),
    "other content": (
        lambda s, path, c: s.give(path, c + b" ", X_Linked_Etag=sha256(c)),
        "its sha256 begins",
    ),
    "no digest": (lambda s, path, c: s.give(path, c), "the server does not state its sha256"),
    "an odd digest": (
        lambda s, path, c: s.give(path, c, X_Linked_Etag='"../../x"'),
        "the server does not state its sha256",
    ),
    "silence": (lambda s, path, c: s.answers.update({path: silent}), "no answer within"),
    "a loop": (lambda s, path, c: s.redirect(path, path), "HTTP 302"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_download_is_one_sentence_and_leaves_nothing(case, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 1)
    prepare, reason = FAILURES[case]
    prepare(server, path_of(BYOBNET), published(BYOBNET))
    with pytest.raises(InputError) as error:
        create_model(BYOBNET, pretrained=True)
    said = str(error.value)
    assert reason in said and "\n" not in said
    assert f"{server.address}{path_of(BYOBNET)} cannot be fetched" in said
    assert str(tmp_path / "keras" / "models" / "tinyconv" / BYOBNET) in said
    assert "pretrained=FILE" in said
    assert files(tmp_path) == []


def test_no_network_no_disk_and_offline_are_one_sentence(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        create_model(BYOBNET, pretrained=True)
    assert server.seen == []
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_download", full)
        with pytest.raises(InputError, match="No space left on device"):
            create_model(BYOBNET, pretrained=True)
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(InputError, match="Connection refused"):
        create_model(BYOBNET, pretrained=True)
    assert files(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_fetched_anew(server, tmp_path):
    content = published(BYOBNET)
    server.give(path_of(BYOBNET), content, X_Linked_Etag=sha256(content))
    row = registry.weights(BYOBNET)
    path = fetch.weights("test_byobnet", row)
    assert fetch.is_cached("test_byobnet", row)
    path.write_bytes(content[:-1] + b"?")
    assert not fetch.is_cached("test_byobnet", row)
    assert fetch.weights("test_byobnet", row).read_bytes() == content
    assert len(files(tmp_path)) == 1


def test_two_at_once_get_one_whole_file(server, tmp_path):
    content = published(BYOBNET)
    server.give(path_of(BYOBNET), content, X_Linked_Etag=sha256(content))
    found = []
    row = registry.weights(BYOBNET)
    threads = [
        threading.Thread(target=lambda: found.append(fetch.weights("test_byobnet", row)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and {path.read_bytes() for path in found} == {content}
    assert len(files(tmp_path)) == 1


def test_an_archive_holds_a_file_of_another_port(server, tmp_path):
    """imgclsmob zips its files, and names the tensors otherwise."""
    state, logits = golden("resnet20")
    names = {"conv1": "features.init_block.conv", "bn1": "features.init_block.bn", "fc": "output"}

    def renamed(key):
        owner, _, rest = key.partition(".")
        if owner in names:
            return f"{names[owner]}.{rest}"
        unit = f"features.stage{owner[-1]}.unit{int(rest[0]) + 1}."
        rest = re.sub(r"^(conv|bn)(\d)", r"body.conv\2.\1", rest[2:])
        for index, part in enumerate(("conv", "bn")):
            rest = rest.replace(f"downsample.{index}", f"identity_conv.{part}")
        return unit + rest

    inside = save({renamed(key): array for key, array in state.items()})
    assert b"features.stage2.unit1.body.conv1.bn.running_var" in inside
    assert b"features.stage3.unit1.identity_conv.conv.weight" in inside
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.safetensors", inside)
    server.give("/net.safetensors.zip", buffer.getvalue())
    digest = f"sha1:{hashlib.sha1(inside).hexdigest()}"
    file = fetch.fetch("net", "https://host/net.safetensors.zip", digest)
    assert file.read_bytes() == inside
    model = create_model("resnet20", pretrained=file)
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)


def test_normalization_belongs_to_the_weights(monkeypatch, tmp_path):
    name = "resnet20.chenyaofo_c100"
    file = tmp_path / "net.safetensors"
    file.write_bytes(save(golden("resnet20-100")[0]))
    monkeypatch.setattr(fetch, "weights", lambda net, row: file)
    (mean, std), image = registry.weights(name).mean_std, make.images(2)
    assert std == (0.2673, 0.2564, 0.2761)
    for num_classes in (None, 10, 0):
        model = create_model(name, num_classes, pretrained=True)
        normalized = keras.Model(model.input, model.get_layer("normalize").output)(image)
        np.testing.assert_allclose(normalized, (image / 255 - mean) / std, atol=1e-5)
    assert create_model(name).output_shape == (None, 100)


def test_images_are_cropped_as_the_source_says(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 201, 3), np.uint8))
    picture.save(tmp_path / "x.png")
    found = data.read_image(tmp_path / "x.png", (160, 160), data.Crop(0.95, "bilinear"))
    whole = picture.resize((375, 168), Image.Resampling.BILINEAR)  # 168 = int(160 / 0.95)
    left, top = round((375 - 160) / 2), 4
    expected = np.asarray(whole.crop((left, top, left + 160, top + 160)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_predict_and_evaluate_name_the_classes_of_imagenet(server, tmp_path, monkeypatch, capsys):
    content = published(BYOBNET)
    server.give(path_of(BYOBNET), content, X_Linked_Etag=sha256(content))
    for label in ("n00000003", "n00000007"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (200, 170), (index * 90, 40, 10 * int(label[-1]))).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    photos = tmp_path / "photos"
    assert api.predict(BYOBNET, photos)[0]["top"][0]["class"].isdigit()
    said = capsys.readouterr().err
    assert "The classes have numbers, not names: http" in said
    index = {str(i): [f"n{i:08d}", "crane" if i in (3, 9) else f"name {i}"] for i in range(1000)}
    names = json.dumps(index).encode()
    monkeypatch.setattr(classes, "IMAGENET_DIGEST", f"md5:{hashlib.md5(names).hexdigest()}")
    server.give(re.sub("^https://[^/]+", "", classes.IMAGENET), names)
    assert "name" in api.predict("test_byobnet", photos)[0]["top"][0]["class"]
    opened = trained.open_model(BYOBNET)
    assert opened.class_names[3] == "crane (n00000003)" and opened.crop == data.Crop(
        0.95, "bicubic"
    )
    result = api.evaluate(BYOBNET, photos)
    assert sorted(set(result.evaluation.labels)) == [3, 7]
    samples = choose(opened, str(photos), 4, None)
    assert sorted(set(samples.labels)) == [3, 7]
    first = data.read_image(photos / "n00000003" / "0.png", (160, 160), opened.crop)
    assert any(np.array_equal(first, image) for image in samples.images)
    with pytest.raises(InputError, match="was trained on ImageNet; give a folder of its images"):
        api.evaluate(BYOBNET)


@pytest.mark.slow
def test_published_weights_are_fine_tuned(server, npz, tmp_path, capsys):
    content = published(BYOBNET)
    server.give(path_of(BYOBNET), content, X_Linked_Etag=sha256(content))
    arguments = ["--data", str(npz), "-e", "1", "--out", str(tmp_path / "runs"), "--freeze"]
    cli.main(["train", "--model", BYOBNET, *arguments])
    (folder,) = (tmp_path / "runs").iterdir()
    report = json.loads((folder / "report.json").read_text())
    assert report["run"]["model"] == BYOBNET and report["recipe"]["name"] == "finetune"
    source = report["started_from"]
    assert (source["name"], source["sha256"]) == (BYOBNET, sha256(content))
    assert "a new head for these 3 classes" in capsys.readouterr().out
    model = keras.saving.load_model(folder / "model.keras")
    expected = create_model(BYOBNET, pretrained=True).get_layer("stem_conv").get_weights()
    for one, two in zip(model.get_layer("stem_conv").get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    cli.main(["list", "test_b*", "--pretrained"])
    assert "in the cache" in capsys.readouterr().out


def test_unknown_names_are_refused_before_any_download(server):
    for call in (create_model, trained.open_model):
        with pytest.raises(InputError, match=r"Unknown weights 'tiniest\.sci_c10': did you mean"):
            call("tiniest.sci_c10")
    assert server.seen == []


def test_a_file_named_like_a_net_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save_torch(create_model("resnet20"), "resnet20.safetensors")
    cli.main(["convert", "resnet20", "resnet20.safetensors", "resnet20.keras"])
    cli.main(["convert", "resnet20", "resnet20.keras", "resnet20.back.safetensors"])
    assert trained.open_model("resnet20.keras").file == Path("resnet20.keras")
    for name in (
        "tiniest.pt",
        "tiniest.pth.tar",
        "tiniest.my_own.pt",
        "tiniest",
        "x/tiniest.scio_c10",
    ):
        assert not registry.is_pretrained(name)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="TINYCONV_TINIEST does not name tiniest.pt")
@pytest.mark.skipif(not CIFAR10.exists(), reason=f"no CIFAR-10 in {CIFAR10.parent}")
def test_the_published_tiniest_is_evaluated_by_its_name(server):
    """As a user runs it, on a machine without PyTorch."""
    server.give(path_of("tiniest.scio_c10"), Path(PUBLISHED).read_bytes())
    script = f"{SCRIPT}; import sys; assert 'torch' not in sys.modules"
    command = ("-c", script, "evaluate", "tiniest.scio_c10", "--data", "cifar10")
    out, said = run(*command, **{"KERAS_HOME": os.environ["KERAS_HOME"]})
    assert "0.9463" in out or "94.63%" in out
    assert "tiniest.scio_c10: downloading http://127.0.0.1" in said


def test_a_person_with_a_network_checks_all_of_them(server, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check", "test_*net.r160_in1k"])
    for name in (BYOBNET, "test_resnet.r160_in1k"):
        content = published(name)
        server.give(path_of(name), content, X_Linked_Etag=sha256(content))
    with pytest.raises(SystemExit) as error:
        check.main()
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[:-1])
    assert error.value.code == 1 and set(lines) > {BYOBNET, "test_nfnet.r160_in1k"}
    assert lines.pop(BYOBNET) == "right, but its accuracy on imagenet was not measured"
    assert "its sha256 begins" in lines.pop("test_resnet.r160_in1k")  # the registry knows another
    assert all("FAILED" in line and "HTTP 404" in line for line in lines.values())
