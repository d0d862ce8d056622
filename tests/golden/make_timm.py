"""Writes the golden files of timm's test nets: what timm itself answers with random weights.

    pip install torch torchvision timm && cd tests && python -m golden.make_timm

A file holds the keys and shapes of the state dict, from which `make.weights` draws the weights,
and the logits of 10 classes for two images at 160x160 and the same two at 192x192.
"""

import contextlib

import numpy as np
from golden import make

SIZES = (160, 192)
CLASSES = 10
NETS = ["test_byobnet", "test_convnext", "test_convnext2", "test_convnext3", "test_efficientnet"]
NETS += ["test_efficientnet_evos", "test_efficientnet_gn", "test_efficientnet_ln", "test_nfnet"]
NETS += ["test_resnet", "test_vit", "test_vit2", "test_vit3"]


def import_timm():
    with contextlib.suppress(ImportError):
        import torchvision_stub  # noqa: F401  for a PyTorch that no torchvision was built for
    import timm

    return timm


def images(size):
    """Two images of 4x4 coloured squares: (2, size, size, 3) in uint8."""
    return make.images(2, 4).repeat(size // 4, axis=1).repeat(size // 4, axis=2)


def original(name, num_classes=CLASSES):
    """timm's net with the golden weights, and these by name; counters of batches are left out."""
    import torch

    model = import_timm().create_model(name, num_classes=num_classes).eval()
    tensors = {k: t for k, t in model.state_dict().items() if t.is_floating_point()}
    state = make.weights({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    return model, state


def answer(model, batch):
    """Logits of timm's net for images (N, H, W, 3) in uint8, resized to them if it must be."""
    import torch

    if hasattr(model, "pos_embed"):
        model.set_input_size(batch.shape[1:3])
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return model((torch.from_numpy(batch).movedim(-1, 1) / 255 - mean) / std).numpy()


def main():
    for name in NETS:
        model, state = original(name)
        np.savez_compressed(
            make.HERE / f"{name}.npz",
            keys=list(state),
            shapes=[" ".join(map(str, array.shape)) for array in state.values()],
            **{f"logits{size}": answer(model, images(size)) for size in SIZES},
        )


if __name__ == "__main__":
    main()
