"""What a user's model puts out, judged on a few images: logits, probabilities, or refused."""

import keras
import numpy as np
import pytest

from tinyconv import exporters, outputs, trained
from tinyconv.errors import InputError
from tinyconv.training.head import with_head

SHAPE = (8, 8, 3)
ops, layers = keras.ops, keras.layers


def model(*above, shape=SHAPE, scale=1 / 255):
    """A small model of somebody's: `above` are layers or functions on what is flat."""
    keras.utils.set_random_seed(0)
    image = keras.Input(shape)
    x = layers.Flatten()(layers.Rescaling(scale)(image) if scale else image)
    for layer in above:
        x = layer(x)
    return keras.Model(image, x)


def dense(units=3, activation=None, **more):
    more = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.2)} | more
    return layers.Dense(units, activation, **more)


def below(*above, scale=1 / 255):
    """The same one level down, as people wrap a model together with its preprocessing."""
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Activation("linear")(model(*above, scale=scale)(image)))


def of_lists(net):
    return keras.Model([net.input], [net.output])


ONE, HALF = keras.initializers.Constant([0.4, 0.6]), keras.initializers.Constant([0.3, 0.5])
PROBABILITIES = {
    "a softmax operation": lambda: model(dense(), ops.softmax),
    "a softmax in the head": lambda: model(dense(activation="softmax")),
    "a softmax layer": lambda: model(dense(), layers.Softmax()),
    "a softmax in a Lambda": lambda: model(dense(), layers.Lambda(keras.activations.softmax)),
    "a softmax below": lambda: below(dense(activation="softmax")),
    "a Sequential": lambda: keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), dense(activation="softmax")]
    ),
    "lists of one": lambda: of_lists(model(dense(), ops.softmax)),
    "a thousand classes": lambda: model(dense(1000), ops.softmax),
    "saturated, as it expects 0..1": lambda: model(dense(activation="softmax"), scale=None),
    "float16": lambda: model(dense(), layers.Softmax(dtype="float16")),
    "bfloat16": lambda: model(dense(100), layers.Softmax(dtype="bfloat16")),
    "shares of positive scores": lambda: model(
        dense(activation="softplus"), lambda x: x / ops.sum(x, axis=1, keepdims=True)
    ),
    "NaN for a plain image": lambda: model(lambda x: x / ops.std(x, 1, True), dense(), ops.softmax),
}
LOGITS = {
    "logits": lambda: model(dense()),
    "logits below": lambda: below(dense()),
    "logits in another type": lambda: model(dense(), layers.Activation("linear", dtype="float32")),
    "positive logits": lambda: model(dense(activation="relu")),
    "positive logits by an operation": lambda: model(dense(), ops.relu),
    "logarithms of probabilities": lambda: model(dense(), ops.log_softmax),
    "logits that sum to one": lambda: model(
        dense(2, bias_initializer=ONE, kernel_initializer="zeros")
    ),
    "logits in 0..1": lambda: below(dense(2, bias_initializer=HALF, kernel_initializer="zeros")),
    "a head of zeros": lambda: model(dense(kernel_initializer="zeros")),
    "normalized features": lambda: model(dense(), layers.UnitNormalization()),
    "standardized features": lambda: model(dense(), layers.LayerNormalization()),
    "positive features that average one": lambda: model(
        dense(8, "softplus"), lambda x: x / ops.mean(x, axis=1, keepdims=True)
    ),
    "a pool of maps": lambda: keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(3, 3, activation="relu"), layers.GlobalMaxPool2D()]
    ),
}


@pytest.mark.parametrize("case", [*PROBABILITIES, *LOGITS])
def test_a_model_is_judged_by_its_outputs(case, tmp_path):
    (PROBABILITIES | LOGITS)[case]().save(tmp_path / "net.keras")
    opened = trained.open_model(str(tmp_path / "net.keras"))
    assert opened.probabilities == (case in PROBABILITIES)


def two(ends):
    first, second = model(dense()), model(dense())
    return {
        "inputs": lambda: keras.Model(
            [first.input, second.input], layers.Add()([first.output, second.output])
        ),
        "outputs": lambda: keras.Model(first.input, [first.output, second(first.input)]),
    }[ends]()


def maps(height=8, width=8, channels=3, batch=None, pool=True):
    image = keras.Input((height, width, channels), batch)
    x = layers.Conv2D(2, 3, padding="same")(image)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x) if pool else x)


def nan():
    net = model(dense())
    net.layers[-1].bias.assign([0.0, np.nan, 0.0])
    return net


def of_code():
    image = keras.Input(SHAPE)
    x = layers.Lambda(lambda x: x[:, 0, 0], output_shape=(3,))(image)
    return keras.Model(image, x)


CLASSES = "is not a model from RGB images of one size to classes: "
REFUSED = {
    "sigmoids": (lambda: model(dense(activation="sigmoid")), "do not sum to one, as independent"),
    "sigmoids, saturated": (
        lambda: model(dense(activation="hard_sigmoid"), scale=None),
        "do not sum to one, as independent sigmoids do; one class per image needs logits or a so",
    ),
    "sigmoids below": (lambda: below(dense(2, "sigmoid")), "do not sum to one, as independent"),
    "positive normalized features": (
        lambda: model(dense(4, "relu"), layers.UnitNormalization()),
        "do not sum to one, as independent",
    ),
    "a sigmoid": (
        lambda: model(dense(1, "sigmoid")),
        "has one output; each class needs an output of its own, also where there are two",
    ),
    "a logit": (lambda: model(dense(1)), "has one output; each class needs an output of its own"),
    "a softmax of one": (lambda: model(dense(1, "softmax")), "has one output"),
    "NaN": (nan, "net.keras puts out NaN for every image; train it again."),
    "two inputs": (lambda: two("inputs"), f"{CLASSES}it has 2 inputs; it must have one."),
    "two outputs": (lambda: two("outputs"), f"{CLASSES}it has 2 outputs; it must have one."),
    "maps": (lambda: maps(pool=False), "its output has shape (None, 8, 8, 2); it must be (None, "),
    "any size": (lambda: maps(None, None), "(None, None, None, 3); height and width must be"),
    "grey": (lambda: maps(channels=1), "(None, 8, 8, 1); it must be (None, height, width, 3)."),
    "one at a time": (lambda: maps(batch=1), "takes 1 images at a time; the batch size must be"),
    "code": (of_code, "without running the code in its Lambda layer; put a stock layer in its"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_does_not_tell_classes_apart_is_refused(case, tmp_path):
    make, sentence = REFUSED[case]
    make().save(tmp_path / "net.keras")
    with pytest.raises(InputError) as error:
        trained.open_model(str(tmp_path / "net.keras"))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_the_images_that_judge_a_model_differ_at_any_size():
    for size in ((1, 1), (3, 7), (160, 160)):
        images = outputs.images(*size)
        assert images.shape == (8, *size, 3) and images.dtype == np.float32
        assert images.min() == 0 and images.max() == 255
    assert len({image.tobytes() for image in images}) == 8


@pytest.mark.parametrize("case", ["softmax operation", "softmax in the head", "softmax layer"])
def test_training_takes_the_logits_below_a_softmax(case, capsys):
    net = PROBABILITIES[f"a {case}"]()
    known = trained.Trained(net, ("a", "b", "c"), None, probabilities=True)
    kept = with_head(known, ("a", "b", "c"), "net.keras")
    images = outputs.images(8, 8)
    np.testing.assert_allclose(ops.softmax(kept(images)), net(images), atol=1e-6)
    assert not np.allclose(ops.sum(kept(images), axis=1), 1)
    new = with_head(known, ("a", "b"), "net.keras")
    np.testing.assert_array_equal(new(images), np.zeros((8, 2)))
    left_out = "net.keras: its softmax is left out, because a model is trained on its logits\n"
    assert capsys.readouterr().out.count(left_out) == 2


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_head_that_is_called_twice_loses_no_layer(activation):
    """Else what is between its calls would be lost."""
    image, head = keras.Input(SHAPE), dense(activation=activation)
    features = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    gate = ops.sum(head(features), axis=-1, keepdims=True) + 1
    net = keras.Model(image, head(features * gate))
    known = trained.Trained(net, ("a", "b", "c"), None, probabilities=bool(activation))
    images = outputs.images(8, 8)
    if activation:
        with pytest.raises(InputError, match="a Dense layer at the end, called once, is left out"):
            with_head(known, ("a", "b", "c"), "net.keras")
        return
    new = with_head(known, ("a", "b"), "net.keras")
    assert new.layers[-1].input is not features
    new.layers[-1].kernel.assign(np.ones((192, 2)))
    expected = ops.sum(keras.Model(image, features * gate)(images), axis=-1)
    np.testing.assert_allclose(new(images)[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("case", ["a softmax below", "shares of positive scores"])
def test_training_takes_no_other_probabilities(case):
    known = trained.Trained(PROBABILITIES[case](), ("a", "b", "c"), None, probabilities=True)
    for names in (known.class_names, ("a", "b")):
        with pytest.raises(InputError, match="puts out probabilities, and training needs logits"):
            with_head(known, names, "net.keras")


@pytest.mark.parametrize("target", ["savedmodel", "litert", "onnx"])
@pytest.mark.parametrize("case", ["a softmax operation", "a softmax below", "a Sequential"])
def test_probabilities_are_exported_as_they_are(case, target, tmp_path):
    form = exporters.formats()[target]
    for package in form.packages:
        pytest.importorskip(package, reason="it comes with tinyconv[export]")
    PROBABILITIES[case]().save(tmp_path / "net.keras")
    opened = trained.open_model(str(tmp_path / "net.keras"))
    images = outputs.images(8, 8).astype(np.uint8)
    check = exporters.export(opened.model, target, tmp_path / f"net{form.tail}", images)
    np.testing.assert_allclose(check.logits.sum(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(check.logits, opened.model(images), atol=1e-4)
