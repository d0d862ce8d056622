"""Sums of products of vectors, all of them in registers, as LLVM code that Numba calls.

Numba keeps the sum of a convolution in memory, or loads both factors of every product; a tile holds
several sums at once and loads what they share once, which is twice as fast.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16  # numbers of a vector; LLVM splits it where the machine's are shorter

Place = tuple[int, ...]  # in units of strides that are known only when the tile runs


def tile(sums: list[Place], products: list[tuple[int, Place, Place]], shared: bool = False) -> Any:
    """A function for compiled code that adds products of vectors to sums of them.

    Args:
        sums: where each sum is stored.
        products: which sum, by its index, each product belongs to, and where its factors are.
        shared: all sums begin with the same vector; else each with one from its own place.

    Returns:
        A function of (out, at, initial, at, source, at, kernel, at, and the strides of out, source
        and kernel as tuples): flat float32 arrays with the element to count places from.
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
        groups = (out_strides, source_strides, kernel_strides)
        strides = (types.UniTuple(integer, len(group)) for group in groups)
        signature = types.void(
            *(out, integer, initial, integer, source, integer, kernel, integer), *strides
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.FloatType(), LANES)
            index = context.get_value_type(integer)

            def place(array: int, strides: int, place: Place) -> Any:
                offset = arguments[array + 1]
                for position, count in enumerate(place):
                    stride = builder.extract_value(arguments[strides], position)
                    offset = builder.add(offset, builder.mul(index(count), stride))
                data = context.make_array(signature.args[array])(context, builder, arguments[array])
                return builder.bitcast(builder.gep(data.data, [offset]), vector.as_pointer())

            loaded: dict[tuple[int, Place], Any] = {}

            def load(array: int, strides: int, at: Place) -> Any:
                if (array, at) not in loaded:
                    loaded[array, at] = builder.load(place(array, strides, at), align=4)
                return loaded[array, at]

            totals = [load(2, 8, (0,) * len(at) if shared else at) for at in sums]
            for number, at, kernel_place in products:
                product = builder.fmul(load(4, 9, at), load(6, 10, kernel_place), flags=("fast",))
                totals[number] = builder.fadd(totals[number], product, flags=("fast",))
            for total, at in zip(totals, sums, strict=True):
                builder.store(total, place(0, 8, at), align=4)
            return context.get_dummy_value()

        return signature, generate

    return run
