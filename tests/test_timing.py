import importlib
import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command, run, start, wait_for
from test_weights import CIFAR10

from tinyconv import cli, create_model, fast, registry, timing, weights
from tinyconv.errors import InputError
from tinyconv.timing import ablation, engines, first_step, peers, tables, torch_nets

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


def test_the_script_writes_to_the_images_beside_it(monkeypatch):
    given = []
    monkeypatch.setattr(cli, "main", given.extend)
    monkeypatch.setattr(sys, "argv", ["timing.py", "--runs", "2"])
    runpy.run_path(str(ROOT / "timing.py"), run_name="__main__")
    assert cli.parse(given).out == ROOT / "images" and cli.parse(given).runs == 2


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
    (tmp_path / "torch_bf16.py").write_text(
        "from tinyconv.timing.peers import torch\nclass Peer(torch.Peer):\n    kind = 'bfloat16'\n"
    )
    monkeypatch.setattr(peers, "__path__", [*peers.__path__, str(tmp_path)])
    assert peers.names() == ("compiled", "keras", "torch", "torch-bf16")
    assert peers.get("torch-bf16").kind == "bfloat16"
    assert cli.parse(["time", "--compare", "torch-bf16"]).compare == ["torch-bf16"]
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
    def made(kind, at_32, at_128, unaugmented):
        rates = {32: timing.Spread(at_32), 128: timing.Spread(at_128)}
        rest = {128: timing.Spread(unaugmented)} if unaugmented else {}
        one = timing.Spread((1.0, 1.0, 1.0))
        return timing.Timing("tiniest", kind, 1, 1, 1, rates, rest, one, one)

    ours = made("tinyconv", (80, 80, 80), (90, 100, 150), (100, 125, 150))
    theirs = made("PyTorch", (30, 50, 60), (20, 20, 90), ())
    lines = tables.comparison([ours, theirs]).splitlines()
    assert "2.50 (2.00-3.00)" in lines[-2] and "1.00 (1.00-1.00)" in lines[-2]
    assert "0.90 (0.80-1.00)" in lines[-1]


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
    with pytest.raises(InputError, match="The original of test_vit cannot be imported"):
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
def test_engines_are_timed_in_processes_of_their_own(monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="it comes with tinyconv[export]")
    if not CIFAR10.exists():
        pytest.skip(f"no CIFAR-10 in {CIFAR10.parent}")
    monkeypatch.setattr(engines, "FORMATS", ("litert",))
    names = ("fast twin", "LiteRT")
    chosen = {name: engines.ENGINES[name] for name in names}
    for same, figures in engines.measure("cifar10_tiny_half", chosen, rounds=2).values():
        assert same == 1 and figures.shape == (2, 2) and figures.min() > 0


@pytest.mark.slow
def test_the_first_step_of_every_test_net_is_timed(capsys):
    first_step.main((2,), rounds=1, libraries=("tinyconv",))
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| 2 \| tinyconv \| [\d.]+ \([\d.]+-[\d.]+\) \| [\d.]+ \|", row)
