import numpy as np
import pytest
from conftest import ROOT

from tinyconv import cli, create_model


def command(*arguments):
    args = cli.parse([str(argument) for argument in arguments])
    cli.run(lambda: args.main(args))


def test_summary(capsys):
    command("summary", "cifar10_tiny")
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split() == ["cifar10_tiny", "170,282", "100.00%", "34,768,128"]


def test_evaluate(npz, tmp_path, capsys):
    model = create_model("cifar10_tiny_half", num_classes=3)
    model.get_layer("head_dense").kernel.assign(np.zeros((64, 3)))
    model.get_layer("head_dense").bias.assign([0, 1, 0])  # everything is green
    model.save(tmp_path / "green.keras")
    command("evaluate", tmp_path / "green.keras", "--data", npz)
    printed = capsys.readouterr().out
    assert "8 of 24 images right: accuracy 33.33%, error 66.67%, top-5 100.00%" in printed
    assert printed.split("green")[1].split()[:4] == ["0.333", "1.000", "0.500", "8"]
    command("summary", tmp_path / "green.keras")


REFUSED = {
    "unknown net": (("summary", "tinyest"), "Unknown net 'tinyest': did you mean 'tiniest'?"),
    "no model": (("evaluate", "gone.keras"), "There is no file gone.keras."),
    "not a model": (("evaluate", "README.md"), "README.md cannot be opened as a Keras model."),
    "no weights": (("convert", "tiniest", "gone.pt", "x.keras"), "There is no file gone.pt."),
    "no net": (("convert", "tiny", "x.pt", "x.keras"), "Unknown net 'tiny'"),
    "nowhere": (("convert", "tiniest", "x.pt", "/proc/1/x.keras"), "Cannot write to /proc/1"),
    "other classes": (("evaluate", "NET", "--data", "NPZ"), "has 10 classes, but"),
    "other net": (("convert", "resnet20", "NET", "x.safetensors"), "is a tiniest, not a resnet20."),
    "other ending": (("convert", "tiniest", "NET", "x.onnx"), "must end in .safetensors or .pt."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_says_why(case, npz, tmp_path, capsys, monkeypatch):
    arguments, sentence = REFUSED[case]
    monkeypatch.chdir(ROOT)
    create_model("tiniest").save(tmp_path / "net.keras")
    names = {"NET": tmp_path / "net.keras", "NPZ": npz}
    before = sorted(ROOT.iterdir())
    with pytest.raises(SystemExit) as exit_:
        command(*(names.get(argument, argument) for argument in arguments))
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert sentence in error and error.count("\n") == 1
    assert sorted(ROOT.iterdir()) == before
