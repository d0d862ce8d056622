"""Tiles: sums of products of vectors in registers, generated for Numba.

Numba's own code for a convolution keeps the sums in memory, or loads both factors of every product.
A tile keeps several sums in registers, and loads a factor of several sums once. A convolution of
tiles is twice as fast.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 16  # numbers per vector; LLVM splits a vector if the registers are shorter

Place = tuple[int, ...]  # a position in an array, as a multiple of each stride


def tile(sums: list[Place], products: list[tuple[int, Place, Place]], shared: bool = False) -> Any:
    """Make a function for compiled code that computes sums of products of vectors.

    The function takes (out, at, initial, at, source, at, kernel, at, out_strides, source_strides,
    kernel_strides). `out`, `initial`, `source` and `kernel` are flat, contiguous arrays of float32.
    Numba raises a TypingError for other arrays. Each `at` is an index into the array before it. A
    place is relative to this index. The strides are tuples.

    Args:
        sums: the place in `out` of each sum.
        products: for each product, the index of its sum, the place of the first factor in `source`,
            and the place of the second factor in `kernel`.
        shared: whether all sums start from the same vector of `initial`. Otherwise each sum starts
            from the vector at its own place in `initial`, with the strides of `out`.

    Returns:
        The function.
    """

    @intrinsic
    def run(
        typing: Any,
        out: Any,
        out_at: Any,
        initial: Any,
        initial_at: Any,
        source: Any,
        source_at: Any,
        kernel: Any,
        kernel_at: Any,
        out_strides: Any,
        source_strides: Any,
        kernel_strides: Any,
    ) -> Any:
        integer = types.intp
        for array in (out, initial, source, kernel):
            if (array.dtype, array.ndim, array.layout) != (types.float32, 1, "C"):
                raise TypingError(f"a tile takes flat arrays of float32, not {array}")
        groups = (out_strides, source_strides, kernel_strides)
        signature = types.void(
            *(out, integer, initial, integer, source, integer, kernel, integer),
            *(types.UniTuple(integer, len(group)) for group in groups),
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = ir.VectorType(ir.FloatType(), LANES).as_pointer()
            index = context.get_value_type(integer)

            def place(array: int, strides: int) -> Any:
                """A function that takes a place in argument `array` and returns a pointer."""
                kind, value, start = signature.args[array], arguments[array], arguments[array + 1]
                data = context.make_array(kind)(context, builder, value).data

                def at(counts: Place) -> Any:
                    offset = start
                    for position, count in enumerate(counts):
                        stride = builder.extract_value(arguments[strides], position)
                        offset = builder.add(offset, builder.mul(index(count), stride))
                    return builder.bitcast(builder.gep(data, [offset]), pointer)

                return at

            def loader(at: Any) -> Any:
                loaded: dict[Place, Any] = {}

                def load(counts: Place) -> Any:
                    if counts not in loaded:
                        loaded[counts] = builder.load(at(counts), align=4)
                    return loaded[counts]

                return load

            result = place(0, 8)
            start, first, second = (
                loader(place(array, strides)) for array, strides in ((2, 8), (4, 9), (6, 10))
            )
            totals = [start((0,) * len(counts) if shared else counts) for counts in sums]
            for number, one, other in products:
                product = builder.fmul(first(one), second(other), flags=("fast",))
                totals[number] = builder.fadd(totals[number], product, flags=("fast",))
            for total, counts in zip(totals, sums, strict=True):
                builder.store(total, result(counts), align=4)
            return context.get_dummy_value()

        return signature, generate

    return run
