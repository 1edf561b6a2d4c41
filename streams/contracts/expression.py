"""The small expression language of contracts, over columns of a ROOT tree. Knows no file and no contract.

An expression is arithmetic on branch names, numbers and the functions of `FUNCTIONS`, for example
``hypot(Jet_Px, Jet_Py)`` or ``L1EG_hwPt[L1EG_bx == 0] // 2``. Names with dots, slashes or other characters
stand in backticks. It is parsed by Python's own parser and checked node by node against a whitelist;
nothing is ever handed to ``eval``.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from streams.contracts import columns as c
from streams.contracts.columns import Array, Column, Lists, elementwise
from streams.errors import ExpressionError

MAX_LENGTH: Final = 1000
MAX_NODES: Final = 200
_BRANCH: Final = "branch"
_QUOTED: Final = re.compile(r"`([^`\n]*)`")


def _numbers(function: Callable[..., Array]) -> Callable[..., Column]:
    return lambda *columns: elementwise(lambda *arrays: function(*(c.as_number(a) for a in arrays)), *columns)


def _plain(function: Callable[..., Array]) -> Callable[..., Column]:
    return lambda *columns: elementwise(function, *columns)


def _num(values: Column) -> Array:
    if not isinstance(values, Lists):
        raise ExpressionError("num counts the numbers of a list")
    return values.numbers


def _count(mask: Column) -> Array:
    if not isinstance(mask, Lists) or mask.content.dtype.kind != "b":
        raise ExpressionError("count, any and all take a comparison of lists: num counts without one")
    return c.reduced(np.add, Lists(mask.content.astype(np.int64), mask.offsets), _ZERO)


def _sum(values: Column) -> Array:
    return c.reduced(np.add, elementwise(c.as_number, values), _ZERO)


def _extreme(function: np.ufunc) -> Callable[..., Array]:
    return lambda values, otherwise: c.reduced(function, elementwise(c.as_number, values), otherwise)


_ZERO: Final = np.zeros((), dtype=np.int64)

FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int | None]]] = {
    "abs": (_numbers(np.abs), 1),
    "all": (lambda mask: _count(mask) == _num(mask), 1),
    "any": (lambda mask: _count(mask) > 0, 1),
    "arccos": (_numbers(np.arccos), 1),
    "arcsin": (_numbers(np.arcsin), 1),
    "arcsinh": (_numbers(np.arcsinh), 1),
    "arctan": (_numbers(np.arctan), 1),
    "arctan2": (_numbers(np.arctan2), 2),
    "arctanh": (_numbers(np.arctanh), 1),
    "at": (c.picked, 3),
    "concat": (c.joined, None),
    "cos": (_numbers(np.cos), 1),
    "cosh": (_numbers(np.cosh), 1),
    "count": (_count, 1),
    "exp": (_numbers(np.exp), 1),
    "first": (lambda values, otherwise: c.picked(values, _ZERO, otherwise), 2),
    "hypot": (_numbers(np.hypot), 2),
    "log": (_numbers(np.log), 1),
    "max": (_extreme(np.maximum), 2),
    "maximum": (_numbers(np.maximum), 2),
    "min": (_extreme(np.minimum), 2),
    "minimum": (_numbers(np.minimum), 2),
    "num": (_num, 1),
    "ones_like": (_numbers(np.ones_like), 1),
    "sin": (_numbers(np.sin), 1),
    "sinh": (_numbers(np.sinh), 1),
    "sqrt": (_numbers(np.sqrt), 1),
    "sum": (_sum, 1),
    "tan": (_numbers(np.tan), 1),
    "tanh": (_numbers(np.tanh), 1),
    "where": (_plain(np.where), 3),
    "zeros_like": (_numbers(np.zeros_like), 1),
}
"""Function name -> (implementation, number of arguments; None for one or more)."""

CONSTANTS: Final[Mapping[str, float]] = {"pi": float(np.pi)}


def _power(base: Array, exponent: Array) -> Array:
    return np.float_power(base, exponent)


_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Column]]] = {
    ast.Add: _plain(c.exact(np.add, lambda a, b: a + b)),
    ast.Sub: _plain(c.exact(np.subtract, lambda a, b: a + b)),
    ast.Mult: _plain(c.exact(np.multiply, lambda a, b: a * b)),
    ast.Div: _numbers(np.true_divide),
    ast.FloorDiv: _plain(c.whole_division(np.floor_divide)),
    ast.Mod: _plain(c.whole_division(np.mod)),
    ast.Pow: _numbers(_power),
    ast.USub: _numbers(np.negative),
    ast.UAdd: _numbers(np.positive),
    ast.LShift: _plain(c.shifted(np.left_shift, left=True)),
    ast.RShift: _plain(c.shifted(np.right_shift, left=False)),
    ast.BitAnd: _plain(c.bitwise(np.bitwise_and)),
    ast.BitOr: _plain(c.bitwise(np.bitwise_or)),
    ast.BitXor: _plain(c.bitwise(np.bitwise_xor)),
    ast.Invert: _plain(c.bitwise(np.invert)),
    ast.Lt: _plain(np.less),
    ast.LtE: _plain(np.less_equal),
    ast.Gt: _plain(np.greater),
    ast.GtE: _plain(np.greater_equal),
    ast.Eq: _plain(np.equal),
    ast.NotEq: _plain(np.not_equal),
}


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes
    ----------
    text
        The expression as written.
    names
        The branches it reads.
    """

    text: str
    names: frozenset[str]
    root: ast.expr

    def evaluate(self, columns: Mapping[str, Column], memo: dict[str, Column] | None = None) -> Column:
        """Evaluate over columns of equal length.

        Parameters
        ----------
        columns
            Branch name -> numbers or lists of numbers (see `streams.contracts.columns`).
        memo
            Keeps what parts of expressions gave, for other expressions over the same columns.

        Returns
        -------
        Column
            Values per event or per object, or a constant of shape (); division by zero and the like give
            NaN or infinity.

        Raises
        ------
        ExpressionError
            A branch is missing, the columns cannot be combined, or a constant is no number.
        """
        missing = sorted(self.names - set(columns))
        if missing:
            raise ExpressionError(f"expression '{self.text}' needs branch '{missing[0]}', which was not read")
        try:
            with np.errstate(all="ignore"):
                result = _evaluate(self.root, columns, {} if memo is None else memo)
        except (ExpressionError, ValueError, TypeError, OverflowError) as error:
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ExpressionError(f"expression '{self.text}' cannot be evaluated: {cause}") from error
        if not isinstance(result, Lists) and not result.ndim and not np.isfinite(result):
            raise ExpressionError(f"expression '{self.text}' cannot be evaluated: it gives {result}")
        return result


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Parse and check one expression; the same text gives the same object.

    Raises
    ------
    ExpressionError
        The text is not in the language; the message says which part and what is allowed.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"expression of {len(text)} characters: write at most {MAX_LENGTH}")
    try:
        root = ast.parse(
            _QUOTED.sub(lambda quoted: f"{_BRANCH}({quoted[1]!r})", text).strip(), mode="eval"
        ).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            f"expression '{text}' is not valid arithmetic: check its brackets and backticks"
        ) from error
    if sum(1 for _ in ast.walk(root)) > MAX_NODES:
        raise ExpressionError(f"expression '{text}' has more than {MAX_NODES} parts: split it")
    found: set[str] = set()
    _check(root, text, found)
    return Expression(text=text, names=frozenset(found), root=root)


def names(text: str) -> set[str]:
    """Return the branches that an expression reads, for example ``{"Jet_Px", "Jet_Py"}``."""
    return set(parse(text).names)


def _check(node: ast.expr, text: str, found: set[str]) -> None:
    """Refuse whatever is not in the language; collect branch names in `found`."""
    match node:
        case ast.Call(func=ast.Name(id="branch"), args=[ast.Constant(value=str() as name)], keywords=[]):
            if not name.strip():
                raise ExpressionError(
                    f"expression '{text}': a branch without name: write it in the backticks"
                )
            found.add(name)
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise ExpressionError(f"expression '{text}': '{name}' is a function, give it arguments")
            if name not in CONSTANTS:
                found.add(name)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if isinstance(value, int) and value >= 2**63:
                raise ExpressionError(f"expression '{text}': {value} leaves 64 bits: write it with a point")
        case _:
            for child in _children(node, text):
                _check(child, text, found)


def _children(node: ast.expr, text: str) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return [operand]
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return [left, right]
        case ast.Subscript(
            value=value, slice=ast.Compare() | ast.BinOp() | ast.UnaryOp() | ast.Name() | ast.Call() as mask
        ):
            return [value, mask]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            _check_call(name, arguments, text)
            return arguments
    raise ExpressionError(f"expression '{text}': '{ast.unparse(node)}' is not allowed; {_hint(node)}")


def _hint(node: ast.expr) -> str:
    match node:
        case ast.Attribute():
            return "write a branch name with a dot in backticks"
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return "write & | ~ with brackets around comparisons"
        case ast.Compare():
            return "write (a < b) & (b < c)"
        case ast.Subscript():
            return "write x[x > 3] to choose, at(x, 2, 0) for one place"
    return "write arithmetic on branches and numbers"


def _check_call(name: str, arguments: list[ast.expr], text: str) -> None:
    if name not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        raise ExpressionError(f"expression '{text}': unknown function '{name}'; known are {known}")
    wanted = FUNCTIONS[name][1]
    if (wanted is not None and len(arguments) != wanted) or not arguments:
        raise ExpressionError(
            f"expression '{text}': {name} takes {wanted or 'one or more'} arguments, not {len(arguments)}"
        )


@lru_cache(maxsize=4096)
def _written(node: ast.expr) -> str:
    """Return what nodes that say the same have in common; `parse` keeps nodes, so it is worked out once."""
    return ast.dump(node)


def _evaluate(node: ast.expr, columns: Mapping[str, Column], memo: dict[str, Column]) -> Column:
    match node:
        case ast.Constant(value=int() as value):
            return np.array(value, dtype=np.int64)
        case ast.Constant(value=float() as value):
            return np.array(value)
        case ast.Name(id=name):
            return np.array(CONSTANTS[name]) if name in CONSTANTS else columns[name]
        case ast.Call(func=ast.Name(id="branch"), args=[ast.Constant(value=str() as name)]):
            return columns[name]
    key = _written(node)
    if key not in memo:
        memo[key] = _combined(node, columns, memo)
    return memo[key]


def _combined(node: ast.expr, columns: Mapping[str, Column], memo: dict[str, Column]) -> Column:
    function: Callable[..., Column]
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            function, children = _OPERATORS[type(op)], [left, right]
        case ast.UnaryOp(op=op, operand=operand):
            function, children = _OPERATORS[type(op)], [operand]
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            function, children = _OPERATORS[type(op)], [left, right]
        case ast.Call(func=ast.Name(id=name), args=children):
            function = FUNCTIONS[name][0]
        case ast.Subscript(value=value, slice=mask):
            function, children = c.chosen, [value, mask]
        case _:
            raise ExpressionError(f"'{ast.unparse(node)}' was not checked before evaluation")
    arguments = [_evaluate(child, columns, memo) for child in children]
    if not isinstance(node, ast.Compare):  # integers of any width compare exactly
        arguments = [c.widened(argument) for argument in arguments]
    result = function(*arguments)
    return result if isinstance(result, Lists) else np.asarray(result)
