"""Where the arithmetic runs: one CPU or GPU, several, a TPU, several machines; the precision."""

import contextlib
import importlib
import json
import os
import platform
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import keras
import numpy as np

import tinyconv
from tinyconv.errors import InputError
from tinyconv.hosts import Hosts

MULTI_WORKER = "Keras cannot train on several machines by TensorFlow (keras issue 20585)"
JOIN, HEARTBEAT, FINISH = 300, 60, 24 * 3600  # seconds to wait for another host to come, live, end
TPU_PORT, ANSWER = 8470, 10  # where a TPU listens, and seconds for it to answer
MOST_STEPS = 50  # of training that a TPU runs between two looks at it


class Devices:
    """What a training runs on.

    Args:
        tpu: None, or which TPU: "local" for one attached to this machine, a name, ZONE/NAME, or an
            address such as grpc://10.0.0.2:8470.
        limit: use at most so many GPUs of each machine. Default: all that are visible.
        hosts: the machines that take part, if there are several; JAX alone can.

    `count` devices share every batch; `rank` is 0 on the one host that writes files.

    Raises:
        InputError: what is asked for is not there.
    """

    def __init__(
        self, tpu: str | None = None, limit: int | None = None, hosts: Hosts | None = None
    ):
        if limit is not None and limit < 1:
            raise InputError(f"--devices is {limit}; it must be at least 1.")
        if limit is not None and tpu:
            raise InputError("--devices limits GPUs; a TPU is used whole.")
        self.strategy: Any = None
        self.distribution: keras.distribution.DataParallel | None = None
        self.count, self.rank, self.hosts = 1, 0, 1
        backend = keras.backend.backend()
        if backend == "tensorflow":
            self._refuse_multi_worker(hosts)
            self._find_tensorflow(tpu, limit)
        elif backend == "jax":
            self._find_jax(tpu, limit, hosts)
        else:
            raise InputError(f"KERAS_BACKEND is {backend}; tinyconv runs on tensorflow or jax.")

    def _refuse_multi_worker(self, hosts: Hosts | None) -> None:
        if hosts:
            raise InputError(f"{MULTI_WORKER}: set KERAS_BACKEND=jax for --hosts.")
        try:
            cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
            workers = sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError("TF_CONFIG is not the JSON of a cluster; unset it.") from error
        if workers > 1:
            raise InputError(
                f"TF_CONFIG names {workers} workers, but {MULTI_WORKER}: set KERAS_BACKEND=jax and "
                "give --hosts."
            )

    def _find_tensorflow(self, tpu: str | None, limit: int | None) -> None:
        import tensorflow as tf

        if tpu:
            zone, _, name = tpu.rpartition("/") if "://" not in tpu else ("", "", tpu)
            try:
                if "://" in tpu:  # TensorFlow waits without end for one that does not answer
                    address = urlsplit(tpu)
                    where = (address.hostname, address.port or TPU_PORT)
                    socket.create_connection(where, ANSWER).close()
                cluster = tf.distribute.cluster_resolver.TPUClusterResolver
                resolver = cluster.connect(tpu=name, zone=zone or None)
                self.strategy = tf.distribute.TPUStrategy(resolver)
            except Exception as error:
                raise _no_tpu(tpu, error) from error
            self.kind, self.count = "tpu", self.strategy.num_replicas_in_sync
            return
        gpus = tf.config.list_logical_devices("GPU")
        self.kind = "gpu" if gpus else "cpu"
        chosen = _at_most(limit, gpus or tf.config.list_logical_devices("CPU"), self.kind)
        self.count = len(chosen)
        if self.count > 1:
            # TensorFlow's collectives mix up those of batch norms and of gradients, and fail.
            self.strategy = tf.distribute.MirroredStrategy(
                [device.name for device in chosen],
                cross_device_ops=tf.distribute.ReductionToOneDevice(),
            )

    def _find_jax(self, tpu: str | None, limit: int | None, hosts: Hosts | None) -> None:
        import jax

        if tpu and tpu != "local":
            raise InputError("On JAX a TPU is one that is attached to this machine: --tpu alone.")
        if hosts and len(hosts.addresses) > 1:
            # Not keras.distribution.initialize, which cannot be told how long to wait.
            jax.distributed.initialize(
                hosts.addresses[0],
                len(hosts.addresses),
                hosts.index,
                initialization_timeout=JOIN,
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=FINISH,
            )
            self.rank, self.hosts = hosts.index, len(hosts.addresses)
        try:
            own = jax.local_devices(backend="tpu") if tpu else jax.local_devices()
        except RuntimeError as error:
            raise _no_tpu("local", error) if tpu else error from error
        platform = "tpu" if tpu else own[0].platform
        self.kind = {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)
        _at_most(limit, own, self.kind)
        everywhere: dict[int, list] = {}
        for device in sorted(jax.devices(own[0].platform), key=lambda d: (d.process_index, d.id)):
            everywhere.setdefault(device.process_index, []).append(device)
        if limit is None and len(set(map(len, everywhere.values()))) > 1:
            raise InputError(
                "The hosts have unlike numbers of devices; make them equal by --devices."
            )
        names = [f"{d.platform}:{d.id}" for own in everywhere.values() for d in own[:limit]]
        self.count = len(names)
        if self.count > 1:
            self.distribution = keras.distribution.DataParallel(
                devices=names, auto_shard_dataset=False
            )

    def scope(self) -> Any:
        """The context to build and compile the model in that trains."""
        if self.distribution:
            return self.distribution.scope()
        return self.strategy.scope() if self.strategy else nullcontext()

    def fit_scope(self) -> Any:
        """The context to train it in: a TensorFlow strategy is known to the model already."""
        return self.distribution.scope() if self.distribution else nullcontext()

    @contextlib.contextmanager
    def on_one_device(self) -> Iterator[None]:
        """The context for another model on one device, while the first one trains."""
        shared = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(shared)

    def agree(self, what: int) -> bool:
        """Whether all of several hosts have come with the same number."""
        from jax.experimental import multihost_utils

        return len(set(multihost_utils.process_allgather(np.uint32(what)).tolist())) == 1

    def share(self, batch_size: int) -> slice:
        """The images of a batch of `batch_size` that this host trains on."""
        own = batch_size // self.hosts
        return slice(self.rank * own, (self.rank + 1) * own)

    def steps_per_execution(self, steps: int) -> int:
        """For `compile`, in an epoch of `steps`: a TPU goes on for a while without its host."""
        if self.kind != "tpu":
            return 1
        return max(n for n in range(1, MOST_STEPS + 1) if steps % n == 0)

    def clone(self, net: keras.Model, mixed: bool) -> keras.Model:
        """A copy of `net`, its weights too, to train: as it is, or in mixed precision.

        That is float16 on a GPU and bfloat16 elsewhere, always on a TPU; the last layer stays in
        float32. On several devices a batch norm takes the statistics of the whole batch, as it
        would on one: under JAX that is so anyway.
        """
        mixed = mixed or self.kind == "tpu"

        def copy(layer: keras.Operation) -> keras.Operation:
            config = layer.get_config()
            if mixed and isinstance(layer, keras.layers.Layer) and layer is not net.layers[-1]:
                config["dtype"] = "mixed_float16" if self.kind == "gpu" else "mixed_bfloat16"
            if self.strategy and isinstance(layer, keras.layers.BatchNormalization):
                config["synchronized"] = True
            return type(layer).from_config(config)

        clone = keras.models.clone_model(net, clone_function=copy)
        clone.set_weights(net.get_weights())
        return clone

    def optimizer(
        self, optimizer: keras.optimizers.Optimizer, mixed: bool
    ) -> keras.optimizers.Optimizer:
        """`optimizer` for such a copy: in float16 the loss is scaled, so that gradients survive."""
        if mixed and self.kind == "gpu":
            return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        return optimizer

    def can_fuse(self, mixed: bool) -> bool:
        """Whether `tinyconv.fast` has something for what this is, in mixed precision or not."""
        if keras.backend.backend() == "jax":
            return self.kind == "cpu"
        return self.kind == "cpu" and self.count == 1 and not mixed

    @property
    def jit_compile(self) -> str | bool:
        """For `compile`: several replicas train wrongly under XLA (keras issue 20763)."""
        return "auto" if self.strategy is None else False


def _at_most(limit: int | None, devices: list, kind: str) -> list:
    if limit is not None and limit > len(devices):
        raise InputError(f"--devices is {limit}, but of {kind} devices {len(devices)} are visible.")
    return devices[:limit]


def _no_tpu(tpu: str, error: Exception) -> InputError:
    return InputError(
        f"No TPU answers at {tpu!r} ({type(error).__name__}); run on a TPU machine or leave out "
        "--tpu."
    )


def machine() -> dict[str, Any]:
    """What a figure was measured on: processor, cores, memory, accelerators, versions."""
    backend = importlib.import_module(keras.backend.backend())
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "accelerators": _accelerators(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (tinyconv, keras, backend, np)},
        },
    }


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _accelerators() -> list[str]:
    if keras.backend.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
