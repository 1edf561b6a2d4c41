"""Instructions on whole vectors that numba does not offer, and how the loops of this room are compiled.

Written in LLVM's terms, which turns them into what the processor has: on any processor they give the same.
Knows no histogram.
"""

from collections.abc import Callable
from typing import Any, Final

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import int64, uintp, void

LANES: Final = 32
"""Codes that are squeezed at a time."""
WORD: Final = 64
"""Events whose marks lie in one word."""
WORDS: Final = 8
"""Words that are compared at a time."""
ROWS, COLUMNS = 3, 4
"""Rows of marks that are compared at a time: so many with so many others."""


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def squeeze(_context: Any, source: Any, target: Any, value: Any) -> Any:
    """Copy those of 32 int16 at an address that are not `value`, in order; return how many they are.

    Writes 32 places whatever their number.
    """
    signature = int64(source, target, value)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(16), LANES)
        mask = ir.VectorType(ir.IntType(1), LANES)
        place, goal = (builder.inttoptr(address, vector.as_pointer()) for address in arguments[:2])
        codes = builder.load(place)
        codes.align = 2
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, arguments[2], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        kept = builder.icmp_signed("!=", codes, builder.shuffle_vector(one, undefined, zeros))
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector, mask, vector]),
            f"llvm.experimental.vector.compress.v{LANES}i16",
        )
        builder.store(builder.call(compress, [codes, kept, undefined]), goal).align = 2
        return builder.zext(builder.ctpop(builder.bitcast(kept, ir.IntType(LANES))), ir.IntType(64))

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def leading_zeros(_context: Any, value: Any) -> Any:
    """Return how many of the highest bits of an integer are zero."""
    signature = value(value)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return signature, generate


def compiled(signature: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function now, to be called from Python; without signature, together with its caller.

    What is called from Python is kept beside this file, as Python keeps its own byte code, or else in the
    user's cache folder; where neither can be written it is compiled in every process.
    """
    entry = signature is not None
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "no_cfunc_wrapper": True}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=entry, no_cpython_wrapper=not entry, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return numba.njit(signature, **options)(function)

    return decorate


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def reaching(_context: Any, source: Any, threshold: Any) -> Any:
    """Return which of 64 int16 at an address are at least a threshold: bit ``n`` says it of the n-th."""
    signature = int64(source, threshold)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(16), WORD)
        codes = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()))
        codes.align = 2
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, arguments[1], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
        found = builder.icmp_signed(">=", codes, builder.shuffle_vector(one, undefined, zeros))
        return builder.bitcast(found, ir.IntType(WORD))

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def count_common(_context: Any, rows: Any, columns: Any, stride: Any, n_steps: Any, counts: Any) -> Any:
    """Count the bits that `ROWS` rows of marks have in common with each of `COLUMNS` others.

    Rows and others begin at the addresses `rows` and `columns`, each `stride` bytes after the one before,
    and have ``n_steps * WORDS`` words. Writes int64, shape (ROWS, COLUMNS), to the address `counts`.
    """
    del rows, columns, stride, n_steps, counts  # numba asks for their names
    signature = void(uintp, uintp, uintp, int64, uintp)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rows, columns, stride, n_steps, counts = arguments
        number = ir.IntType(64)
        vector = ir.VectorType(number, WORDS)
        ones = _function(builder, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{WORDS}i64")
        added = _function(builder, ir.FunctionType(number, [vector]), f"llvm.vector.reduce.add.v{WORDS}i64")
        zero = ir.Constant(vector, [0] * WORDS)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(ROWS * COLUMNS)]

        def loaded(first: Any, row: int, offset: Any) -> Any:
            address = builder.add(first, builder.mul(stride, ir.Constant(number, row)))
            words = builder.load(builder.inttoptr(builder.add(address, offset), vector.as_pointer()))
            words.align = 8
            return words

        with cgutils.for_range(builder, n_steps) as loop:
            offset = builder.mul(loop.index, ir.Constant(number, 8 * WORDS))
            left = [loaded(rows, row, offset) for row in range(ROWS)]
            right = [loaded(columns, row, offset) for row in range(COLUMNS)]
            for place, total in enumerate(sums):
                common = builder.and_(left[place // COLUMNS], right[place % COLUMNS])
                builder.store(builder.add(builder.load(total), builder.call(ones, [common])), total)
        for place, total in enumerate(sums):
            goal = builder.add(counts, ir.Constant(number, 8 * place))
            found = builder.call(added, [builder.load(total)])
            builder.store(found, builder.inttoptr(goal, number.as_pointer()))
        return context.get_dummy_value()

    return signature, generate


def _function(builder: Any, kind: Any, name: str) -> Any:
    return cgutils.get_or_insert_function(builder.module, kind, name)
