"""Where the arithmetic runs: one CPU or GPU, several GPUs, a TPU; and in which precision."""

import importlib
import os
import platform
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tinyconv
from tinyconv.errors import InputError


class Devices:
    """What a training runs on.

    Args:
        tpu: None, or the name or address of a TPU ("local": one attached to this machine).

    Raises:
        InputError: a TPU is asked for and none answers.
    """

    def __init__(self, tpu: str | None = None):
        if keras.backend.backend() not in ("tensorflow", "jax"):
            raise InputError(
                f"KERAS_BACKEND is {keras.backend.backend()}; tinyconv runs on tensorflow or jax."
            )
        self.strategy: Any = None
        self.kind = "tpu" if tpu else "cpu"
        if keras.backend.backend() == "tensorflow":
            self._find_tensorflow(tpu)
        elif tpu:
            raise InputError("--tpu needs the TensorFlow backend; unset KERAS_BACKEND.")
        elif any(d.startswith(("gpu", "cuda")) for d in keras.distribution.list_devices()):
            self.kind = "gpu"

    def _find_tensorflow(self, tpu: str | None) -> None:
        import tensorflow as tf

        if tpu:
            try:
                resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu)
                self.strategy = tf.distribute.TPUStrategy(resolver)
            except Exception as error:
                raise InputError(
                    f"No TPU answers at {tpu!r} ({type(error).__name__}); run on a TPU machine or "
                    "leave out --tpu."
                ) from error
            return
        gpus = tf.config.list_logical_devices("GPU")
        if gpus:
            self.kind = "gpu"
        if len(gpus) > 1:
            self.strategy = self.mirrored(gpus)

    @staticmethod
    def mirrored(devices: list) -> Any:
        """A strategy over several devices of TensorFlow.

        Its default collectives mix up those of batch norms and of gradients, and fail.
        """
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(
            devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
        )

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def scope(self) -> Any:
        """The context to build and compile a model in."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def clone(self, net: keras.Model, mixed: bool) -> keras.Model:
        """A copy of `net`, its weights too, to train: as it is, or in mixed precision.

        That is float16 on a GPU and bfloat16 elsewhere; the last layer stays in float32. With
        several replicas a batch norm takes the statistics of the whole batch, as it would on one.
        """

        def copy(layer: keras.Operation) -> keras.Operation:
            config = layer.get_config()
            if mixed and isinstance(layer, keras.layers.Layer) and layer is not net.layers[-1]:
                config["dtype"] = "mixed_float16" if self.kind == "gpu" else "mixed_bfloat16"
            if self.replicas > 1 and isinstance(layer, keras.layers.BatchNormalization):
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
            return keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    @property
    def can_fuse(self) -> bool:
        """Whether `tinyconv.fast` has an operation for what this is."""
        one_cpu = self.kind == "cpu" and self.replicas == 1
        return one_cpu and keras.backend.backend() == "tensorflow"

    @property
    def jit_compile(self) -> str | bool:
        """For `compile`: several replicas train wrongly under XLA (keras issue 20763)."""
        return "auto" if self.replicas == 1 else False


def machine() -> dict[str, Any]:
    """What a figure was measured on: processor, cores, memory, accelerators, versions."""
    backend = importlib.import_module(keras.backend.backend())
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "accelerators": _accelerators(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (tinyconv, keras, backend, np)},
        },
    }


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
