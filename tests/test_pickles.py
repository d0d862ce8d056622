"""Files of PyTorch without PyTorch: what is read, and what is refused."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from conftest import ROOT

from tinyconv import weights
from tinyconv.errors import InputError
from tinyconv.weights import pickles

NUMBERS = np.arange(6, dtype="<f4")
MARK = ROOT / "hostile pickle was run"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def ints(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(kind="Float", count=6, key="0"):
    found = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu")
    return b"(" + found + integer(count) + b"tQ"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None):
    call = b"ctorch._utils\n_rebuild_tensor_v2\n("
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return call + (of or storage()) + integer(offset) + ints(shape) + ints(strides) + hooks + b"tR"


def mapping(**entries):
    items = b"".join(text(key) + value for key, value in entries.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def write(path, content, compression=zipfile.ZIP_STORED, numbers=NUMBERS, order=b"little"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/byteorder", order)
        archive.writestr("net/data/0", numbers.tobytes())
    return path


def test_tensors_are_read(tmp_path):
    content = mapping(
        a=tensor(),
        b=tensor((3, 2), (1, 3)),  # transposed
        c=tensor((), (), 4),
        d=tensor((0, 5), (5, 1)),
        e=b"ctorch._utils\n_rebuild_parameter\n(" + tensor((2,), (2,), 1) + b"\x88}tR",
    )
    content = content[:-1] + b"}" + text("_metadata") + b"}sb."  # as PyTorch marks versions
    state = weights.read(write(tmp_path / "net.pt", content))
    assert [array.dtype for array in state.values()] == [np.float32] * 5
    grid = NUMBERS.reshape(2, 3)
    for key, expected in (("a", grid), ("b", grid.T), ("c", 4), ("e", [1, 3])):
        np.testing.assert_array_equal(state[key], expected)
    assert state["d"].shape == (0, 5)


def test_the_older_format_is_read(tmp_path):
    header = pickle.dumps(pickles.MAGIC, 2) + pickle.dumps(1001, 2)
    header += pickle.dumps({"little_endian": True, "type_sizes": {}}, 2)
    old = storage()[:-2] + b"NtQ"  # a view of a storage, or none
    content = mapping(a=tensor(of=old)) + pickle.dumps(["0"], 2) + struct.pack("<q", 6)
    (tmp_path / "net.pt").write_bytes(header + content + NUMBERS.tobytes())
    state = weights.read(tmp_path / "net.pt")
    np.testing.assert_array_equal(state["a"], NUMBERS.reshape(2, 3))
    (tmp_path / "cut.pt").write_bytes(header + content + NUMBERS.tobytes()[:-1])
    with pytest.raises(InputError, match="is damaged or holds more than tensors; not opened"):
        weights.read(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        ("Half", np.array([1.5, -2], "<f2"), np.float32([1.5, -2])),
        ("BFloat16", np.array([0x3FC0, 0xC000], "<u2"), np.float32([1.5, -2])),
        ("Double", np.array([1.5, -2], "<f8"), np.float32([1.5, -2])),
        ("Long", np.array([7, -2], "<i8"), np.int64([7, -2])),
        ("Bool", np.array([True, False]), np.array([True, False])),
    ],
)
def test_each_type_of_number_is_read(kind, numbers, expected, tmp_path):
    content = mapping(a=tensor((2,), (1,), of=storage(kind, 2)))
    state = weights.read(write(tmp_path / "net.pt", content, numbers=numbers))
    np.testing.assert_array_equal(state["a"], expected, strict=True)


def calling(function, *arguments):
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


REFUSED = {
    "a function": (mapping(a=calling("os.system", text(f"touch '{MARK}'"))), "(os.system)"),
    "eval": (mapping(a=calling("builtins.eval", text("1"))), "(builtins.eval)"),
    "a module of PyTorch": (mapping(a=calling("torch.hub.load", text("x"))), "(torch.hub.load)"),
    "a name with points": (
        b"\x80\x04" + text("collections") + text("OrderedDict.__init__") + b"\x93.",
        "(collections.OrderedDict.__init__)",
    ),
    "an instance": (b"(ios\nsystem\n.", None),
    "a new object": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", None),
    "an extension": (b"\x80\x02\x82\x01.", None),
    "a call of a tensor": (mapping(a=tensor() + b")R"), None),
    "too many numbers": (mapping(a=tensor((7,), (1,))), None),
    "a huge tensor": (mapping(a=tensor((2**31 - 1,), (0,))), None),
    "a negative stride": (mapping(a=tensor((2, 3), (-3, 1), 3)), None),
    "a negative shape": (mapping(a=tensor((-2, -3), (3, 1))), None),
    "a negative offset": (mapping(a=tensor((2,), (1,), -2)), None),
    "a storage that is longer than its bytes": (
        mapping(a=tensor((9,), (1,), of=storage(count=9))),
        None,
    ),
    "all numbers, as -1": (mapping(a=tensor((6,), (1,), of=storage(count=-1))), None),
    "a storage that is not there": (mapping(a=tensor(of=storage(key="../0"))), None),
    "two types of one storage": (mapping(a=tensor(), b=tensor(of=storage("Int"))), None),
    "a shape that is changed afterwards": (
        b"\x80\x02}" + text("a") + tensor() + b"}" + text("shape") + ints((99,)) + b"sbs.",
        "changed nothing",
    ),
    "a deep tuple as a key": (b"\x80\x02})" + b"\x85" * 10**6 + integer(1) + b"s.", None),
    "a deep list": (b"\x80\x02" + b"(" * 10**6 + b"l" * 10**6 + b".", "is not a state dict"),
    "a long memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "is not a state dict"),
    "text without its end": (b"\x80\x02X\xff\xff\xff\xff.", None),
    "an empty stack": (b"\x80\x02s.", None),
    "no object": (b"\x80\x02.", None),
    "no end": (b"\x80\x02}", None),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(x, marks=pytest.mark.slow if x.startswith("a deep") else ()) for x in REFUSED],
)
def test_a_hostile_or_damaged_pickle_is_refused(case, tmp_path):
    content, said = REFUSED[case]
    path = write(tmp_path / "net.pt", content)
    if said == "changed nothing":
        np.testing.assert_array_equal(weights.read(path)["a"], NUMBERS.reshape(2, 3))
        return
    with pytest.raises(InputError) as error:
        weights.read(path)
    assert (said or "is damaged or holds more than tensors; not opened") in str(error.value)
    assert "\n" not in str(error.value) and not MARK.exists()


def test_a_compressed_or_big_endian_archive_is_refused(tmp_path):
    good = mapping(a=tensor())
    for options in ({"compression": zipfile.ZIP_DEFLATED}, {"order": b"big"}):
        with pytest.raises(InputError, match="not opened"):
            weights.read(write(tmp_path / "net.pt", good, **options))
    twice = io.BytesIO((tmp_path / "net.pt").read_bytes())
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("other/data.pkl", good)
    (tmp_path / "twice.pt").write_bytes(twice.getvalue())
    with pytest.raises(InputError, match="not opened"):
        weights.read(tmp_path / "twice.pt")
