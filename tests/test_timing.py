import dataclasses
import importlib
import importlib.util
import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, command, run, start, wait_for

from tinyconv import (
    cli,
    create_model,
    exporters,
    fast,
    list_models,
    recipes,
    registry,
    timing,
    weights,
)
from tinyconv.errors import InputError
from tinyconv.timing import (
    ablation,
    exported,
    first_step,
    peers,
    picture,
    tables,
    torch_nets,
    worker,
)
from tinyconv.timing.peers import torch as torch_peer

PACKAGES = {  # of the peers that only run an exported file
    "litert": "ai_edge_litert",
    "litert-int8": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "openvino-f32": "openvino",
    "openvino-int8": "nncf",
}
DIFFERENCES = {"int8": (1e-3, 0.4), "bf16": (1e-4, 0.05)}  # by the last word of a peer's kind
NET = "cifar10_tiny_half"


@pytest.mark.slow
def test_timing_measures_and_draws(tmp_path):
    printed, err = run("timing.py", "--model", NET, "--batch", 4, "--runs", 2, "--out", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"timing.json", "timing.png"}
    report = json.loads((tmp_path / "timing.json").read_text())
    (net,) = report["nets"]
    assert (net["parameters"], net["macs"]) == (48_794, 10_044_032)
    assert net["batch_size"] == 4
    assert len(net["training"]["4"]["values"]) == len(net["inference"]["values"]) == 2
    assert net["seconds_per_epoch"] == pytest.approx(50_000 / net["training_median"])
    assert net["inference_median"] > net["training_median"]
    assert net["latency_p99"] >= net["latency_median"] > 0
    assert 4 * 48_794 < net["size"] < 6 * 4 * 48_794
    assert NET in printed and "48,794" in printed and "10.04" in printed
    assert f"median and range of {report['runs']} runs" in printed
    assert "oneDNN" not in err and "absl" not in err  # the process that timed it is silent too


def test_only_the_folder_of_out_is_written_to(tmp_path, monkeypatch):
    one = timing.Spread((1.0, 1.0, 1.0))
    made = timing.Timing(NET, "tinyconv", 1, 1, 1, {32: one}, {32: one}, one, one)
    monkeypatch.setattr(timing, "measure", lambda *_, **__: [made])
    monkeypatch.chdir(tmp_path)
    command("time", "--model", NET, "--compare", "keras")
    assert not list(tmp_path.iterdir())
    command("time", "--model", NET, "--compare", "keras", "--out", "there")
    assert {file.name for file in tmp_path.glob("there/*")} == {"timing.json", "timing.png"}


@pytest.mark.parametrize(("flag", "out"), [("--runs=2", ROOT / "images"), ("--quick", None)])
def test_the_script_writes_to_the_images_beside_it_unless_it_is_quick(flag, out, monkeypatch):
    given = []
    monkeypatch.setattr(cli, "main", given.extend)
    monkeypatch.setattr(sys, "argv", ["timing.py", flag])
    runpy.run_path(str(ROOT / "timing.py"), run_name="__main__")
    assert cli.parse(given).out == out and flag in given


def test_a_quick_measurement_is_shorter_and_says_what_it_is(tmp_path, monkeypatch):
    one, given = timing.Spread((1.0, 1.0)), []

    def measure(names, batch_sizes, runs, seconds, **_):
        given.append((batch_sizes, runs, seconds))
        return [timing.Timing(NET, "tinyconv", 1, 1, 1, {}, {}, one, one)]

    monkeypatch.setattr(timing, "measure", measure)
    for flags in ((), ("--quick",), ("--quick", "--runs", 3, "--batch")):
        printed, _ = command("time", "--model", NET, *flags, "--out", tmp_path)
        quick = json.loads((tmp_path / "timing.json").read_text())["quick"]
        assert quick is ("(--quick), for a first look only" in printed) is bool(flags)
    full, short, chosen = given
    assert full == ([32, 128], 5, 1.0) and chosen == ([], 3, short[2])
    assert all(small < large for small, large in zip(short, full, strict=True))


def test_a_net_and_its_peers_end_before_the_next_net_starts(monkeypatch):
    alive, said = set(), []

    class Worker:
        def __init__(self, peer, name, *_):
            self.me = name, peer

        def __enter__(self):
            alive.add(self.me)
            return self

        def __exit__(self, *_):
            alive.remove(self.me)

        def ask(self, method):
            assert alive == {(self.me[0], peer) for peer in ("", "a", "b")}
            said.append((method, *self.me))

    prepared = []
    monkeypatch.setattr(worker, "_Worker", Worker)
    monkeypatch.setattr(
        worker, "get", lambda peer: SimpleNamespace(prepare=lambda net, _: prepared.append(peer))
    )
    timing.measure(["x", "y"], runs=2, peers=("a", "b"))
    assert said == [
        (method, net, peer)
        for net in "xy"
        for method in ("run", "run", "result")
        for peer in ("", "a", "b")
    ]
    assert not alive and prepared == ["a", "b", "a", "b"]


@pytest.mark.slow
def test_compare_times_the_peers_in_the_same_run():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pair = ("keras", "torch")
    options = {"batch_sizes": [1, 2], "runs": 2, "seconds": 0.01, "peers": pair}
    done: list[int] = []
    measured = timing.measure(["resnet20"], **options, on_step=done.append)
    assert [t.name for t in measured] == ["resnet20", "resnet20, plain Keras", "resnet20, PyTorch"]
    assert done == [*range(1, timing.steps(["resnet20"], 2, pair) + 1)]
    for spread in (*measured[2].training.values(), measured[2].inference, measured[2].latency):
        assert spread.low > 0
    assert measured[2].size == 4 * (272_474 + 2 * 784) + 8 * 21  # with batch norms' statistics
    assert [*measured[0].unaugmented] == [1, 2] and not measured[2].unaugmented


def test_a_module_in_peers_adds_its_peer(tmp_path, monkeypatch):
    (tmp_path / "torch_f16.py").write_text(
        "from tinyconv.timing.peers import torch\nclass Peer(torch.Peer):\n    kind = 'float16'\n"
    )
    before = peers.names()
    own = {"keras", "mixed", "torch", "compiled", "torch-bf16", "compiled-bf16"}
    assert {*own, *PACKAGES} == {*before}
    monkeypatch.setattr(peers, "__path__", [*peers.__path__, str(tmp_path)])
    assert peers.names() == tuple(sorted([*before, "torch-f16"]))
    assert peers.get("torch-f16").kind == "float16"
    assert cli.parse(["time", "--compare", "torch-f16"]).compare == ["torch-f16"]
    with pytest.raises(InputError, match="Unknown peer 'pytorch': did you mean 'torch'"):
        peers.get("pytorch")


@pytest.mark.slow
def test_what_goes_wrong_in_another_process_is_one_sentence_in_this():
    with pytest.raises(InputError, match="Unknown net 'cifar10_tinny'"):
        timing.measure(["cifar10_tinny"])


@pytest.mark.slow
def test_ctrl_c_while_a_process_starts_is_one_word(tmp_path):
    command = ["timing.py", "--model", NET, "--batch", 4, "--runs", 1, "--out", tmp_path]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as by nohup
    process = start(*command, group=True)  # a terminal's Ctrl-C goes to a whole group
    signal.signal(signal.SIGINT, before)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("no /proc to see processes in")

    def starting():
        commands = [Path("/proc", child, "cmdline") for child in children.read_text().split()]
        return any("spawn_main" in command.read_text() for command in commands)

    wait_for(starting)
    os.killpg(process.pid, signal.SIGINT)
    printed, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed + err and "stopped." in err
    assert not any(tmp_path.iterdir())


def test_a_comparison_is_of_the_better_batches_run_by_run():
    def made(kind, rates, latency, unaugmented=()):
        rates = {size: timing.Spread(values) for size, values in rates.items()}
        rest = {128: timing.Spread(unaugmented)} if unaugmented else {}
        one, calls = timing.Spread((1.0, 1.0, 1.0)), timing.Spread(latency)
        return timing.Timing("tiniest", kind, 1, 1, 1, rates, rest, one, calls)

    rates = {32: (80, 80, 80), 128: (90, 100, 150)}
    ours = made("tinyconv", rates, (1, 1, 9, 2, 2, 2, 1, 1, 1), (100, 125, 150))
    theirs = made("PyTorch", {32: (30, 50, 60), 128: (20, 20, 90)}, (2, 2, 2, 9, 5, 1, 4, 4, 4))
    engine = made("LiteRT", {}, (0.5, 0.5, 0.5, 1, 1, 1, 0.5, 0.5, 0.5))
    lines = tables.comparison([ours, theirs, engine]).splitlines()
    cells = [re.split("  +", line)[1:] for line in lines]
    assert cells[0] == ["times as fast as", "training", "inference by 64", "one image"]
    training, inference, latency = "2.50 (2.00-3.00)", "1.00 (1.00-1.00)", "2.50 (2.00-4.00)"
    assert cells[1] == ["PyTorch", training, inference, latency]
    assert cells[2] == ["LiteRT", "-", inference, "0.50 (0.50-0.50)"]
    assert "0.90 (0.80-1.00)" in lines[3]


def test_a_peer_without_training_is_a_dash_in_every_output(tmp_path):
    one = timing.Spread((1.0, 3.0))
    ours = timing.Timing(NET, "tinyconv", 1, 1, 1, {32: one}, {}, one, one)
    theirs = timing.Timing(NET, "LiteRT", 1, 1, 1, {}, {}, one, one)
    row = tables.figures([ours, theirs]).splitlines()[-1]
    assert re.split("  +", row)[4:7] == ["-", "-", "-"] and "2 (1-3)" in row
    facts = json.loads(json.dumps(theirs.as_dict()))
    assert [facts[k] for k in ("batch_size", "training_median", "seconds_per_epoch")] == [None] * 3
    picture.draw([ours, theirs], "a caption", tmp_path / "timing.png")
    assert (tmp_path / "timing.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("peer", PACKAGES)
def test_an_exported_file_answers_as_keras_on_all_cores(peer, tmp_path, monkeypatch):
    pytest.importorskip(PACKAGES[peer], reason="it comes with tinyconv[export] or [openvino]")
    net, rng = create_model(NET), np.random.default_rng(0)
    for weight in net.trainable_variables:
        weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
    monkeypatch.setattr(exported, "create_model", lambda name, pretrained: net)
    kind = peers.get(peer)
    kind.check(NET)
    kind.prepare(NET, tmp_path)
    stopwatch = kind(NET, [32], 0.01, tmp_path)
    images = rng.integers(256, size=(5, 32, 32, 3), dtype=np.uint8)
    logits, expected = stopwatch.answer(images), net.predict(images, verbose=0)
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    low, high = DIFFERENCES.get(stopwatch.kind.split()[-1], (0, 1e-4))
    assert low <= difference < high, stopwatch.kind
    assert peer != "openvino" or stopwatch.kind in ("OpenVINO bf16", "OpenVINO f32")
    stopwatch.run()
    made = stopwatch.result()
    assert made.training == made.unaugmented == {} and made.best == timing.Spread(())
    assert made.inference.low > 0 and made.latency.low > 0 and made.size > 48_794


@pytest.mark.parametrize(
    ("peer", "package", "pip"),
    [
        ("litert", "ai_edge_litert", r"pip install 'tinyconv\[export\]'"),
        ("onnxruntime", "onnxruntime", r"pip install 'tinyconv\[export\]'"),
        ("openvino", "openvino", r"pip install 'tinyconv\[openvino\]'"),
        ("openvino-int8", "nncf", r"pip install 'tinyconv\[openvino\]'"),
        ("torch-bf16", "torch", "pip install torch"),
        ("compiled-bf16", "torch", "pip install torch"),
    ],
)
def test_a_peer_whose_library_is_absent_is_refused_before_anything_is_timed(
    peer, package, pip, monkeypatch
):
    known = package == "torch" or importlib.util.find_spec(package)
    needs = package if known else "needs"  # the first package that is absent
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(timing, "measure", lambda *_, **__: pytest.fail("it was timed"))
    _, err = command("time", "--model", NET, "--compare", peer, status=2)
    assert re.search(rf"{needs}.*{pip}\.$", err.strip())


def test_a_file_that_cannot_run_is_refused_before_anything_is_timed(monkeypatch):
    def write(model, path, images):
        path.write_bytes(b"no such file")

    pytest.importorskip("ai_edge_litert", reason="it comes with tinyconv[export]")
    broken = dataclasses.replace(exporters.formats()["litert"], write=write)
    monkeypatch.setitem(exporters.formats(), "litert", broken)
    monkeypatch.setattr(worker, "_Worker", lambda *_: pytest.fail("it was timed"))
    refused = rf"{NET} cannot be timed as litert .*; leave litert out of --compare\."
    with pytest.raises(InputError, match=refused):
        timing.measure([NET], peers=("litert",))


def test_the_recipe_of_every_net_has_an_optimizer_of_pytorch():
    for name in list_models():
        assert recipes.get(registry.get(name).recipe).optimizer in torch_peer.OPTIMIZERS


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["torch-bf16", "compiled-bf16"])
def test_pytorch_computes_in_bfloat16_and_keeps_float32(peer, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    compiled = []  # the compilation itself would take a minute
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    images = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)

    def made(peer):
        torch.manual_seed(0)
        return peers.get(peer)("resnet20", [], 0.01, tmp_path)

    theirs, expected = made(peer), made("torch").answer(images)
    logits = theirs.answer(images)
    assert compiled == [theirs.model] * (peer == "compiled-bf16")
    assert logits.dtype == np.float32
    assert 1e-4 < np.abs(logits - expected).max() / np.abs(expected).max() < 0.05
    before = [tensor.clone() for tensor in theirs.model.parameters()]
    assert theirs.train(1, 2) > 0 and not theirs.model.training
    for old, new in zip(before, theirs.model.parameters(), strict=True):
        assert new.dtype == torch.float32 and not torch.equal(old, new)


@pytest.mark.slow
def test_ablation_prints_ratios_of_training_and_inference(capsys):
    without_chain, _ = ablation.PARTS["chain"]
    ablation.main({"chain": (without_chain, (NET,))}, rounds=2)
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith(f"| chain | `{NET}` |")
    assert len(re.findall(r"\d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)", row)) == 4


def test_ablation_changes_functions_of_a_block_only_inside_the_context():
    before = fast.gated, fast.gated.exp
    with ablation._recompiled("gated", exp=None):
        inside = importlib.import_module("tinyconv.fast.gated")
        assert inside.exp is None and fast.gated is inside is not before[0]
        assert inside.Gated in importlib.import_module("tinyconv.fast.twin").BLOCKS
    assert (fast.gated, fast.gated.exp) == before
    assert sys.modules["tinyconv.fast.gated"] is before[0]


def test_without_what_makes_the_original_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"The original of test_vit cannot be .*: pip .* timm\.$"):
        torch_nets.get("test_vit")


@pytest.mark.parametrize("name", ["tiniest", "resnet20", "cifar10_tiny", "cifar10_tiny_half"])
def test_an_original_is_the_same_net(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, original = create_model(name), torch_nets.get(name)().eval()
    rng = np.random.default_rng(0)
    for weight in net.trainable_variables:
        weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
    if name.startswith("cifar10_tiny"):
        for weight, tensor in zip(net.weights, in_order_of_keras(original), strict=True):
            tensor.data = torch.tensor(turned(weight.numpy()).reshape(tensor.shape))
    else:
        weights.save_torch(net, tmp_path / "net.pt")
        original.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
    images = rng.integers(256, size=(2, *registry.get(name).input_shape), dtype=np.uint8)
    normalized = np.array(net.get_layer("normalize")(images)).transpose(0, 3, 1, 2)
    theirs = original(torch.from_numpy(normalized)).detach().numpy()
    np.testing.assert_allclose(theirs, net(images), atol=1e-4 * abs(theirs).max())


def in_order_of_keras(original):
    """Its parameters, with the scale of a block after what it scales."""
    for module in original:
        own = list(module.parameters())
        yield from own[1:] + own[:1] if hasattr(module, "scale") else own


def turned(kernel):
    """A Keras kernel with its axes in PyTorch's order."""
    depthwise = kernel.ndim == 4 and kernel.shape[0] == 3
    axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    return kernel.transpose(axes) if kernel.ndim > 1 else kernel


@pytest.mark.slow
def test_inference_alone_is_timed_beside_an_engine_in_another_process():
    pytest.importorskip("onnxruntime", reason="it comes with tinyconv[export]")
    pytest.importorskip("tf2onnx", reason="it comes with tinyconv[export]")
    measured = timing.measure([NET], (), runs=2, seconds=0.01, peers=("onnxruntime",))
    assert [made.kind for made in measured] == ["tinyconv", "ONNX Runtime"]
    for made in measured:
        assert made.training == {} and len(made.inference.values) == 2
        assert made.inference.low > 0 and made.latency.low > 0


@pytest.mark.slow
def test_the_first_step_of_every_test_net_is_timed(capsys):
    first_step.main((2,), rounds=1, libraries=("tinyconv",))
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| 2 \| tinyconv \| [\d.]+ \([\d.]+-[\d.]+\) \| [\d.]+ \|", row)
