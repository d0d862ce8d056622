"""timm's tiny vision transformers, with patches of 16x16 pixels as tokens.

Papers: https://arxiv.org/abs/2010.11929, https://arxiv.org/abs/2309.16588 (registers) and
https://arxiv.org/abs/2103.17239 (layer scale). Rebuilt after timm (Apache-2.0). The nets can load
the weights of https://huggingface.co/timm.

| net       | parameters | ImageNet top-1 at 160x160 | at 192x192 | logits are read off |
|-----------|------------|---------------------------|------------|---------------------|
| test_vit  | 371,240    | 40.95%                    | 41.98%     | a class token       |
| test_vit2 | 455,720    | 42.23%                    | 43.45%     | the patches' mean   |
| test_vit3 | 930,280    | 56.89%                    | 58.12%     | attention to all    |

Parameters are for 1000 classes. The accuracies are those that timm reports. test_vit2 and test_vit3
have a register token, which takes part in the attention. The mean of test_vit2 leaves it out.
"""

import keras
from keras import ops

from tinyconv.nets import blocks

PATCH = 16  # pixels
VARIANTS = {  # width, number of blocks, heads, MLP ratio, whether there is layer scale, pool
    "test_vit": (64, 6, 2, 3, False, "token"),
    "test_vit2": (64, 8, 2, 3, True, "mean"),
    "test_vit3": (96, 9, 3, 2, True, "attention"),
}


def start():
    return keras.initializers.RandomNormal(stddev=0.02)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def dense(x, width, name):
    return keras.layers.Dense(width, kernel_initializer=start(), name=name)(x)


def learned(one, tokens, width, stddev, name):
    """Learned tokens (B, tokens, width), the same for every image of a batch.

    They are the output of a dense layer for the constant input `one`, which is 1.
    """
    return keras.layers.EinsumDense(
        "bi,inc->bnc",
        output_shape=(tokens, width),
        kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
        name=name,
    )(one)


def split_heads(x, parts, heads, name):
    """Split (B, N, parts * C) into `parts` tensors (B, N, heads, C / heads)."""
    shape = (x.shape[1], heads, x.shape[2] // parts // heads)
    return [
        keras.layers.Reshape(shape, name=f"{name}{number}")(part)
        for number, part in enumerate(ops.split(x, parts, axis=-1), 1)
    ]


def attend(q, k, v, name):
    """Multi-head attention, softmax(q k / sqrt(C / heads)) v in each head.

    The arguments have the shape (B, N, heads, C / heads), and the result (B, N, C).
    `ops.dot_product_attention` computes the same, but Keras before 3.6 does not have it.
    """
    _, tokens, heads, width = q.shape
    q = keras.layers.Rescaling(width**-0.5, name=f"{name}_scores_scale")(q)
    scores = ops.einsum("bqhc,bkhc->bhqk", q, k)
    weights = keras.layers.Softmax(name=f"{name}_softmax")(scores)
    x = ops.einsum("bhqk,bkhc->bqhc", weights, v)
    return keras.layers.Reshape((tokens, heads * width), name=f"{name}_join")(x)


def attention(x, heads, name):
    """Self-attention: Dense(softmax(q k) v) in each head, with q, k, v = Dense(x)."""
    width = x.shape[-1]
    q, k, v = split_heads(dense(x, 3 * width, f"{name}_qkv"), 3, heads, f"{name}_split")
    x = attend(q, k, v, name)  # -> (B, N, C)
    return dense(x, width, f"{name}_project")


def mlp(x, hidden, name):
    width = x.shape[-1]
    x = dense(x, hidden, f"{name}_expand")
    x = keras.layers.Activation("gelu", name=f"{name}_gelu")(x)
    return dense(x, width, f"{name}_project")


def scale(x, name):
    """Layer scale: a learned factor per channel, as a depthwise convolution of width 1."""
    return keras.layers.DepthwiseConv1D(
        1,
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(1e-5),
        data_format="channels_last",
        name=name,
    )(x)


def block(x, heads, mlp_ratio, scaled, name):
    """x + Attention(LayerNorm(x)), then x + MLP(LayerNorm(x)). `scaled` adds a layer scale."""
    for part in ("attention", "mlp"):
        shortcut = x
        x = norm(x, f"{name}_{part}_norm")
        if part == "attention":
            x = attention(x, heads, f"{name}_attention")
        else:
            x = mlp(x, mlp_ratio * x.shape[-1], f"{name}_mlp")
        if scaled:
            x = scale(x, f"{name}_{part}_scale")
        x = keras.layers.Add(name=f"{name}_{part}_add")([shortcut, x])
    return x


def attention_pool(x, one, heads, mlp_ratio):
    """Attention pooling with a learned query, and an MLP: (B, N, C) -> (B, C)."""
    width = x.shape[-1]
    query = learned(one, 1, width, width**-0.5, "pool_latent")
    (q,) = split_heads(dense(query, width, "pool_q"), 1, heads, "pool_q_split")
    k, v = split_heads(dense(x, 2 * width, "pool_kv"), 2, heads, "pool_kv_split")
    x = attend(q, k, v, "pool")  # (B, 1, C)
    x = dense(x, width, "pool_project")
    y = mlp(norm(x, "pool_norm"), mlp_ratio * width, "pool_mlp")
    x = keras.layers.Add(name="pool_add")([x, y])
    return keras.layers.Flatten(data_format="channels_last", name="pool_flatten")(x)


def network(name, num_classes, input_shape):
    """The net of a variant. The shapes in comments are those of `test_vit` at 160x160."""
    width, depth, heads, mlp_ratio, scaled, pool = VARIANTS[name]
    inputs = keras.Input(input_shape, name="image")
    x = blocks.normalize(inputs, blocks.INCEPTION)
    limit = (3 * PATCH * PATCH) ** -0.5
    uniform = keras.initializers.RandomUniform(-limit, limit)
    x = keras.layers.Conv2D(
        width,
        PATCH,
        strides=PATCH,
        kernel_initializer=uniform,
        data_format="channels_last",
        name="patch_conv",
    )(x)  # (160, 160, 3) -> (10, 10, 64)
    tokens = x.shape[1] * x.shape[2]
    x = keras.layers.Reshape((tokens, width), name="patch_flatten")(x)  # -> (100, 64)
    one = ops.ones_like(x[:, :1, 0])  # (B, 1)
    token = learned(one, 1, width, 1e-6, "class_token" if pool == "token" else "register_token")
    x = keras.layers.Concatenate(axis=1, name="token_concat")([token, x])  # -> (101, 64)
    position = learned(one, tokens + 1, width, 0.02, "position")
    x = keras.layers.Add(name="position_add")([x, position])
    for number in range(1, depth + 1):
        x = block(x, heads, mlp_ratio, scaled, f"block{number}")
    if pool == "mean":
        x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="head_pool")(
            x[:, 1:]
        )  # -> (64,)
        x = norm(x, "head_norm")
    else:
        x = norm(x, "head_norm")
        x = x[:, 0] if pool == "token" else attention_pool(x, one, heads, mlp_ratio)
    return keras.Model(inputs, blocks.classifier(x, num_classes, start()), name=name)


def test_vit(*size):
    return network("test_vit", *size)


def test_vit2(*size):
    return network("test_vit2", *size)


def test_vit3(*size):
    return network("test_vit3", *size)


def torch_names(name):
    """Yield (name in Keras, name in PyTorch, layout) of each layer with weights, the head last."""
    _, depth, _, _, scaled, pool = VARIANTS[name]
    yield "patch_conv", "patch_embed.proj", "conv"
    if pool == "token":
        yield "class_token", "cls_token", "token"
    else:
        yield "register_token", "reg_token", "token"
    yield "position", "pos_embed", "position"
    for number in range(depth):
        block, key = f"block{number + 1}", f"blocks.{number}"
        yield f"{block}_attention_norm", f"{key}.norm1", "norm"
        yield f"{block}_attention_qkv", f"{key}.attn.qkv", "dense"
        yield f"{block}_attention_project", f"{key}.attn.proj", "dense"
        yield f"{block}_mlp_norm", f"{key}.norm2", "norm"
        yield from blocks.mlp_names(f"{block}_mlp", f"{key}.mlp")
        if scaled:
            yield f"{block}_attention_scale", f"{key}.ls1.gamma", "factor"
            yield f"{block}_mlp_scale", f"{key}.ls2.gamma", "factor"
    yield "head_norm", "fc_norm" if pool == "mean" else "norm", "norm"
    if pool == "attention":
        yield "pool_latent", "attn_pool.latent", "token"
        yield "pool_q", "attn_pool.q", "dense"
        yield "pool_kv", "attn_pool.kv", "dense"
        yield "pool_project", "attn_pool.proj", "dense"
        yield "pool_norm", "attn_pool.norm", "norm"
        yield from blocks.mlp_names("pool_mlp", "attn_pool.mlp")
    yield "head_dense", "head", "dense"
