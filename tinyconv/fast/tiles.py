"""Sums of products of vectors, held in registers where there are enough, as code for Numba.

Numba keeps the sum of a convolution in memory, or loads both factors of every product; a tile holds
several sums at once and loads what they share once, which is twice as fast.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 16  # numbers of a vector; LLVM splits it where the machine's are shorter

Place = tuple[int, ...]  # in units of strides that are known only when the tile runs


def tile(sums: list[Place], products: list[tuple[int, Place, Place]], shared: bool = False) -> Any:
    """A function for compiled code that adds products of vectors to sums of them.

    Args:
        sums: where each sum is stored, as many numbers as `out` has strides.
        products: which sum, by its index, a product belongs to, where its first factor is in
            `source`, and where its second is in `kernel`.
        shared: all sums begin with the same vector of `initial`; else each with one from its own
            place, by the strides of `out`.

    Returns:
        A function of (out, at, initial, at, source, at, kernel, at, and the strides of out, source
        and kernel as tuples): flat arrays, each with the element that its places count from. Of
        arrays that are not float32 in one piece, Numba makes a TypingError.
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
                """A function from places of argument `array` to pointers."""
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
