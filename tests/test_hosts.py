"""Several machines: here, processes of this one that meet on the loopback."""

import json
import socket
import time

import numpy as np
import pytest
from conftest import run, start

from tinyconv import hosts
from tinyconv.errors import InputError

GENTLE = """
import sys, time
import numpy as np
from dataclasses import replace
import keras
from tinyconv import cli, recipes
from tinyconv.training import train

recipes.RECIPES["resnet"] = replace(recipes.RECIPES["resnet"], learning_rate=0.001)
weights, hold, *arguments = sys.argv[1:]

class Hold(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and hold == "hold":
            time.sleep(600)

def fit(trainer, folder, done, callbacks, fit=train._train):
    fit(trainer, folder, done, [Hold()])
    np.savez(weights, *trainer.net.get_weights())

train._train = fit
cli.main(["train", *arguments])
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_tensorflow_on_several_hosts_is_refused(npz):
    hosts = ("--hosts", "127.0.0.1:9,127.0.0.1:10", "--host-index", 0)
    _, said = run("train.py", "--data", npz, *hosts, status=2, KERAS_BACKEND="tensorflow")
    assert said.splitlines()[-1] == (
        "error: Keras cannot train on several machines by TensorFlow (keras issue 20585): set "
        "KERAS_BACKEND=jax for --hosts."
    )


@pytest.mark.slow
def test_two_hosts_train_as_one_and_one_is_killed(npz, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    arguments = ("--model", "resnet20", "--data", npz, "--batch", 48, "--epoch", 2)
    jax = {"KERAS_BACKEND": "jax"}
    one = tmp_path / "one.npz"
    alone = start("-c", GENTLE, one, "", *arguments, "--out", tmp_path / "one", **jax)

    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    out = ("--out", tmp_path / "two", "--hosts", addresses, "--host-index")
    survivor = start("-c", GENTLE, "never", "", *arguments, *out, 0, **jax)
    victim = start("-c", GENTLE, "never", "hold", *arguments, *out, 1, **jax)
    end = time.monotonic() + 300
    while not list((tmp_path / "two").glob("*/checkpoint.npz")):
        assert time.monotonic() < end and survivor.poll() is None, survivor.communicate()
        time.sleep(0.1)
    victim.kill()
    killed = time.monotonic()
    _, err = survivor.communicate(timeout=120)
    victim.communicate(timeout=10)
    assert survivor.returncode == 2 and time.monotonic() - killed < 60
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == f"error: {hosts.LOST}" and "Traceback" not in err

    (folder,) = (tmp_path / "two").iterdir()
    environment = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses} | jax
    processes = [
        start(
            *("-c", GENTLE, tmp_path / f"{index}.npz", "", "--resume", folder),
            KERAS_DISTRIBUTION_PROCESS_ID=str(index),
            **environment,
        )
        for index in range(2)
    ]
    for process in (*processes, alone):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
    facts = json.loads((folder / "report.json").read_text())
    assert facts["status"] == "complete"
    assert facts["devices"] == {"kind": "cpu", "count": 2, "hosts": 2}
    weights = [np.load(path) for path in (one, tmp_path / "0.npz", tmp_path / "1.npz")]
    for name in weights[0]:
        expected, first, second = (each[name] for each in weights)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-4)


def test_hosts_are_found_in_the_environment(monkeypatch):
    assert hosts.get(None, None) is None
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "a:1,b:2")
    with pytest.raises(InputError, match="KERAS_DISTRIBUTION_PROCESS_ID is ''; it must be"):
        hosts.get(None, None)
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "1")
    assert hosts.get(None, None) == hosts.Hosts(("a:1", "b:2"), 1)
    assert hosts.get("c:3,d:4", 0) == hosts.Hosts(("c:3", "d:4"), 0)


def test_without_fork_the_work_is_done_in_this_process(monkeypatch):
    monkeypatch.delattr("os.fork")
    done = []
    hosts.supervise(lambda: done.append(1), lambda main: main())
    assert done == [1]
