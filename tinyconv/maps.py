"""Where each weight of a net is in its PyTorch original: names and layouts, family by family."""

from collections.abc import Callable, Iterator

Layer = tuple[str, str, str]  # name in Keras, name in PyTorch, layout of the kernel

# How a Keras kernel lies in PyTorch, and back; the way back is told the Keras shape.
LAYOUTS: dict[str, tuple[Callable, Callable]] = {
    # (height, width, in, out) <-> (out, in, height, width); in is per group
    "conv": (lambda k: k.transpose(3, 2, 0, 1), lambda t, _: t.transpose(2, 3, 1, 0)),
    # (height, width, in, multiplier) <-> (in * multiplier, 1, height, width)
    "depthwise": (
        lambda k: k.transpose(2, 3, 0, 1).reshape(-1, 1, *k.shape[:2]),
        lambda t, shape: t.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1),
    ),
    # (in, out) <-> (out, in)
    "dense": (lambda k: k.T, lambda t, _: t.T),
    # (in, out) <-> (out, in, 1, 1)
    "pointwise": (lambda k: k.T[:, :, None, None], lambda t, _: t[:, :, 0, 0].T),
    # (1, 1, channels, 1) <-> (1, channels, 1, 1), one factor per channel
    "scale": (lambda k: k.transpose(0, 2, 1, 3), lambda t, _: t.transpose(0, 2, 1, 3)),
    # (1, 1, channels, 1) or (1, channels, 1) <-> (channels,), one factor per channel
    "factor": (lambda k: k.reshape(-1), lambda t, shape: t.reshape(shape)),
    "affine": (lambda k: k.reshape(-1), lambda t, shape: t.reshape(shape)),
    # (channels,) <-> (channels, 1, 1, 1)
    "gain": (lambda k: k[:, None, None, None], lambda t, _: t[:, 0, 0, 0]),
    # the same in both: (channels,) for a norm, (1, tokens, channels) for the others
    "norm": (lambda k: k, lambda t, _: t),
    "token": (lambda k: k, lambda t, _: t),
    "position": (lambda k: k, lambda t, _: t),
}
WHOLE = ("scale", "factor", "token", "position")  # the PyTorch name is the tensor's, not a layer's
SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "gain": "gain",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # a batch norm's, of no use to Keras


def _tiniest(name: str) -> Iterator[Layer]:
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "ln1.ln", "norm"
    yield "downscale_conv", "dsconv", "conv"
    yield "downscale_norm", "ln2.ln", "norm"
    for index in range(6):
        block, key = f"stage{index // 3 + 1}_block{index % 3 + 1}", f"l{index + 1}"
        yield f"{block}_scale", f"{key}.rs", "scale"
        yield f"{block}_dwconv3", f"{key}.dwconv1", "depthwise"
        yield f"{block}_dwconv7", f"{key}.dwconv2", "depthwise"
        yield f"{block}_dwconv19", f"{key}.dwconv3", "depthwise"
        yield f"{block}_norm", f"{key}.ln.ln", "norm"
        yield f"{block}_expand", f"{key}.fc1", "pointwise"
        yield f"{block}_project", f"{key}.fc2", "pointwise"
    yield "head_dense", "fc", "dense"


def _resnet(name: str) -> Iterator[Layer]:
    yield "stem_conv", "conv1", "conv"
    yield "stem_norm", "bn1", "norm"
    blocks = (int(name.removeprefix("resnet")) - 2) // 6
    for stage in (1, 2, 3):
        for number in range(blocks):
            block, key = f"stage{stage}_block{number + 1}", f"layer{stage}.{number}"
            for index in (1, 2):
                yield f"{block}_conv{index}", f"{key}.conv{index}", "conv"
                yield f"{block}_norm{index}", f"{key}.bn{index}", "norm"
            if stage > 1 and number == 0:
                yield f"{block}_shortcut_conv", f"{key}.downsample.0", "conv"
                yield f"{block}_shortcut_norm", f"{key}.downsample.1", "norm"
    yield "head_dense", "fc", "dense"


def _norm(norm: str, layer: str, key: str) -> Iterator[Layer]:
    """A norm, or the two layers that EvoNorm is."""
    if norm == "evos":
        yield f"{layer}_slope", f"{key}.v", "factor"
        yield f"{layer}_affine", key, "affine"
    else:
        yield layer, key, "norm"


def _squeeze_excite(
    layer: str, key: str, names: tuple[str, str] = ("fc1", "fc2")
) -> Iterator[Layer]:
    yield f"{layer}_reduce", f"{key}.{names[0]}", "pointwise"
    yield f"{layer}_expand", f"{key}.{names[1]}", "pointwise"


def _mlp(layer: str, key: str) -> Iterator[Layer]:
    yield f"{layer}_expand", f"{key}.fc1", "dense"
    yield f"{layer}_project", f"{key}.fc2", "dense"


def _byobnet(name: str) -> Iterator[Layer]:
    yield "stem_conv", "stem.conv", "conv"
    yield "stem_norm", "stem.bn", "norm"
    for stage, (excite, *convs) in enumerate(
        (
            ("attn", "conv1_kxk", "conv2_1x1"),
            ("attn_last", "conv1_1x1", "conv2_kxk"),
            ("attn_last", "conv1_kxk", "conv2_kxk"),
            ("attn", "conv1_1x1", "conv2_kxk", "conv3_1x1"),
        )
    ):
        block, key = f"stage{stage + 1}_block1", f"stages.{stage}.0"
        for number, conv in enumerate(convs, 1):
            yield f"{block}_conv{number}", f"{key}.{conv}.conv", "conv"
            yield f"{block}_norm{number}", f"{key}.{conv}.bn", "norm"
        yield from _squeeze_excite(f"{block}_se", f"{key}.{excite}")
        yield f"{block}_shortcut_conv", f"{key}.shortcut.conv.conv", "conv"
        yield f"{block}_shortcut_norm", f"{key}.shortcut.conv.bn", "norm"
    yield "head_dense", "head.fc", "dense"


def _convnext(name: str) -> Iterator[Layer]:
    yield "stem_conv", "stem.0", "conv"
    yield "stem_norm", "stem.1", "norm"
    for stage, depth in enumerate((1, 2, 4, 2) if name == "test_convnext" else (1, 1, 1, 1)):
        if stage:
            yield f"downscale{stage}_norm", f"stages.{stage}.downsample.0", "norm"
            yield f"downscale{stage}_conv", f"stages.{stage}.downsample.1", "conv"
        for number in range(depth):
            block, key = f"stage{stage + 1}_block{number + 1}", f"stages.{stage}.blocks.{number}"
            yield f"{block}_dwconv", f"{key}.conv_dw", "depthwise"
            yield f"{block}_norm", f"{key}.norm", "norm"
            yield from _mlp(block, f"{key}.mlp")
            yield f"{block}_scale", f"{key}.gamma", "factor"
    yield "head_norm", "head.norm", "norm"
    yield "head_dense", "head.fc", "dense"


def _efficientnet(name: str) -> Iterator[Layer]:
    norm = name.rpartition("_")[2]
    yield "stem_conv", "conv_stem", "conv"
    yield from _norm(norm, "stem_norm", "bn1")
    for stage, convs in enumerate(
        (
            {"conv": "conv"},
            {"expand": "conv_exp", "project": "conv_pwl"},
            {"expand": "conv_exp", "project": "conv_pwl"},
            {"expand": "conv_pw", "dwconv": "conv_dw", "project": "conv_pwl"},
            {"expand": "conv_pw", "dwconv": "conv_dw", "project": "conv_pwl"},
        )
    ):
        block, key = f"stage{stage + 1}_block1", f"blocks.{stage}.0"
        for number, (layer, conv) in enumerate(convs.items(), 1):
            layout = "depthwise" if layer == "dwconv" else "conv"
            yield f"{block}_{layer}", f"{key}.{conv}", layout
            yield from _norm(norm, f"{block}_norm{number}", f"{key}.bn{number}")
        if "dwconv" in convs:
            names = "conv_reduce", "conv_expand"
            yield from _squeeze_excite(f"{block}_se", f"{key}.se", names)
    yield "head_conv", "conv_head", "conv"
    yield from _norm(norm, "head_norm", "bn2")
    yield "head_dense", "classifier", "dense"


def _nfnet(name: str) -> Iterator[Layer]:
    for number in (1, 2, 3, 4):
        yield f"stem_conv{number}", f"stem.conv{number}", "conv"
    for stage in range(4):
        block, key = f"stage{stage + 1}_block1", f"stages.{stage}.0"
        yield f"{block}_shortcut_conv", f"{key}.downsample.conv", "conv"
        for number, conv in enumerate(("conv1", "conv2", "conv2b", "conv3"), 1):
            yield f"{block}_conv{number}", f"{key}.{conv}", "conv"
        yield from _squeeze_excite(f"{block}_se", f"{key}.attn_last")
    yield "head_conv", "final_conv", "conv"
    yield "head_dense", "head.fc", "dense"


def _resnet_d(name: str) -> Iterator[Layer]:
    for number, (conv, norm) in enumerate(
        (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")), 1
    ):
        yield f"stem_conv{number}", conv, "conv"
        yield f"stem_norm{number}", norm, "norm"
    for stage, convs in enumerate((2, 2, 3, 2), 1):
        block, key = f"stage{stage}_block1", f"layer{stage}.0"
        for number in range(1, convs + 1):
            yield f"{block}_conv{number}", f"{key}.conv{number}", "conv"
            yield f"{block}_norm{number}", f"{key}.bn{number}", "norm"
        if stage > 1:
            yield f"{block}_shortcut_conv", f"{key}.downsample.1", "conv"
            yield f"{block}_shortcut_norm", f"{key}.downsample.2", "norm"
    yield "head_dense", "fc", "dense"


def _vit(name: str) -> Iterator[Layer]:
    yield "patch_conv", "patch_embed.proj", "conv"
    if name == "test_vit":
        yield "class_token", "cls_token", "token"
    else:
        yield "register_token", "reg_token", "token"
    yield "position", "pos_embed", "position"
    for number in range({"test_vit": 6, "test_vit2": 8, "test_vit3": 9}[name]):
        block, key = f"block{number + 1}", f"blocks.{number}"
        yield f"{block}_attention_norm", f"{key}.norm1", "norm"
        yield f"{block}_attention_qkv", f"{key}.attn.qkv", "dense"
        yield f"{block}_attention_project", f"{key}.attn.proj", "dense"
        yield f"{block}_mlp_norm", f"{key}.norm2", "norm"
        yield from _mlp(f"{block}_mlp", f"{key}.mlp")
        if name != "test_vit":
            yield f"{block}_attention_scale", f"{key}.ls1.gamma", "factor"
            yield f"{block}_mlp_scale", f"{key}.ls2.gamma", "factor"
    yield "head_norm", "fc_norm" if name == "test_vit2" else "norm", "norm"
    if name == "test_vit3":
        yield "pool_latent", "attn_pool.latent", "token"
        yield "pool_q", "attn_pool.q", "dense"
        yield "pool_kv", "attn_pool.kv", "dense"
        yield "pool_project", "attn_pool.proj", "dense"
        yield "pool_norm", "attn_pool.norm", "norm"
        yield from _mlp("pool_mlp", "attn_pool.mlp")
    yield "head_dense", "head", "dense"


# Family -> the map of a net of that family by its name; the head comes last.
MAPS: dict[str, Callable[[str], Iterator[Layer]]] = {
    "tiniest": _tiniest,
    "resnet": _resnet,
    "byobnet": _byobnet,
    "convnext": _convnext,
    "efficientnet": _efficientnet,
    "nfnet": _nfnet,
    "resnet_d": _resnet_d,
    "vit": _vit,
}
