"""The devices of a training, and its precision.

The devices are a CPU, one or several GPUs, a TPU, or those of several machines.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

import keras
import numpy as np

from tinyconv.errors import InputError
from tinyconv.hosts import Hosts

MULTI_WORKER = "Keras cannot train on several machines by TensorFlow (keras issue 20585)"
# Timeouts in seconds: for all hosts to start, for a sign of life of a host, and for all to finish.
JOIN, HEARTBEAT, FINISH = 300, 60, 24 * 3600
TPU_PORT, ANSWER = 8470, 10  # default port of a TPU, and seconds to wait for a connection
MOST_STEPS = 50  # the largest steps_per_execution on a TPU


class Devices:
    """The devices that a training runs on.

    Args:
        tpu: the TPU: "local" if it is attached to this machine, a name, ZONE/NAME, or an address
            such as grpc://10.0.0.2:8470. Default: no TPU.
        limit: the largest number of GPUs of each machine. Default: all visible GPUs.
        hosts: the machines, if there are several. Only JAX supports several machines.

    Attributes:
        kind: "cpu", "gpu" or "tpu".
        count: the number of devices that share every batch.
        hosts: the number of machines.
        rank: the index of this machine. Only the machine of rank 0 writes files.

    Raises:
        InputError: the devices do not exist, or the backend does not support them.
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
                if "://" in tpu:  # TensorFlow would wait for ever if no TPU answers
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
            # The default all-reduce fails: TensorFlow confuses batch norms with gradients.
            self.strategy = tf.distribute.MirroredStrategy(
                [device.name for device in chosen],
                cross_device_ops=tf.distribute.ReductionToOneDevice(),
            )

    def _find_jax(self, tpu: str | None, limit: int | None, hosts: Hosts | None) -> None:
        import jax

        if tpu and tpu != "local":
            raise InputError(
                "On JAX a TPU must be attached to this machine; give --tpu without a value."
            )
        if hosts and len(hosts.addresses) > 1:
            # keras.distribution.initialize has no arguments for the timeouts.
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
                "The hosts have different numbers of devices; make them equal by --devices."
            )
        names = [f"{d.platform}:{d.id}" for own in everywhere.values() for d in own[:limit]]
        self.count = len(names)
        if self.count > 1:
            self.distribution = keras.distribution.DataParallel(
                devices=names, auto_shard_dataset=False
            )

    def scope(self) -> Any:
        """The context in which the model that trains is built and compiled."""
        if self.distribution:
            return self.distribution.scope()
        return self.strategy.scope() if self.strategy else nullcontext()

    def fit_scope(self) -> Any:
        """The context for `fit`. A compiled model already knows its TensorFlow strategy."""
        return self.distribution.scope() if self.distribution else nullcontext()

    @contextlib.contextmanager
    def on_one_device(self) -> Iterator[None]:
        """The context in which another model runs on one device during the training."""
        shared = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(shared)

    def agree(self, what: int) -> bool:
        """Whether all hosts call this method with the same number `what`, 0 to 2**32 - 1."""
        from jax.experimental import multihost_utils

        return len(set(multihost_utils.process_allgather(np.uint32(what)).tolist())) == 1

    def share(self, batch_size: int) -> slice:
        """The slice of a batch of `batch_size` images that this host trains on."""
        own = batch_size // self.hosts
        return slice(self.rank * own, (self.rank + 1) * own)

    def steps_per_execution(self, steps: int) -> int:
        """The `steps_per_execution` for `compile`, for an epoch of `steps` steps.

        On a TPU, it is the largest divisor of `steps` up to `MOST_STEPS`. Elsewhere, it is 1.
        """
        if self.kind != "tpu":
            return 1
        return max(n for n in range(1, MOST_STEPS + 1) if steps % n == 0)

    def clone(self, net: keras.Model, mixed: bool, fast: bool = False) -> keras.Model:
        """A copy of the functional model `net` with its weights, for the training.

        If `mixed` is true or the device is a TPU, the copy computes in mixed precision: in float16
        on a GPU, and in bfloat16 elsewhere. The last layer stays in float32, as do the layers that
        fused blocks replace if `fast` is true. On several devices, a batch norm takes the
        statistics of the whole batch. JAX does that by default.
        """
        from tinyconv.fast.twin import in_blocks

        kept = {net.layers[-1].name} | (in_blocks(net) if mixed and fast else set())
        mixed = mixed or self.kind == "tpu"

        def copy(layer: keras.Operation) -> keras.Operation:
            config = layer.get_config()
            if mixed and isinstance(layer, keras.layers.Layer) and layer.name not in kept:
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
        """The optimizer of a `clone`. It scales the loss if the copy computes in float16."""
        if mixed and self.kind == "gpu":
            return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        return optimizer

    @property
    def can_fuse(self) -> bool:
        """Whether `tinyconv.fast` supports these devices."""
        return self.kind == "cpu" and (self.count == 1 or keras.backend.backend() == "jax")

    def jit_compile(self, model: keras.Model, fast: bool) -> str | bool:
        """The `jit_compile` for `compile`: XLA breaks training on replicas (keras issue 20763).

        If `fast` is true, XLA also compiles the models on a CPU that it trains faster.
        """
        from tinyconv.fast import xla

        if fast and xla.suits(model):
            return True
        return "auto" if self.strategy is None else False


def _at_most(limit: int | None, devices: list, kind: str) -> list:
    if limit is not None and limit > len(devices):
        raise InputError(
            f"--devices is {limit}; the number of visible {kind} devices is {len(devices)}."
        )
    return devices[:limit]


def _no_tpu(tpu: str, error: Exception) -> InputError:
    return InputError(
        f"No TPU answers at {tpu!r} ({type(error).__name__}); run on a TPU machine or leave out "
        "--tpu."
    )


def accelerators() -> list[str]:
    """The names of the GPUs or TPUs of this machine."""
    if keras.backend.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
