"""The small expression language of contracts, over columns of a ROOT tree. Knows no file and no contract.

An expression is arithmetic on branch names, numbers and the functions of `FUNCTIONS`, for example
``hypot(Jet_Px, Jet_Py)`` or ``concat(Electron_E, Photon_E)``. It is parsed by Python's own parser and
checked node by node against a whitelist; nothing is ever handed to ``eval``.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import awkward as ak
import numpy as np

from streams.errors import ExpressionError

MAX_LENGTH: Final = 1000
MAX_NODES: Final = 200


def _concat(*arrays: Any) -> Any:
    return ak.concatenate(arrays, axis=1)


FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int | None]]] = {
    "abs": (np.abs, 1),
    "arccos": (np.arccos, 1),
    "arcsin": (np.arcsin, 1),
    "arcsinh": (np.arcsinh, 1),
    "arctan": (np.arctan, 1),
    "arctan2": (np.arctan2, 2),
    "arctanh": (np.arctanh, 1),
    "concat": (_concat, None),
    "cos": (np.cos, 1),
    "cosh": (np.cosh, 1),
    "exp": (np.exp, 1),
    "hypot": (np.hypot, 2),
    "log": (np.log, 1),
    "maximum": (np.maximum, 2),
    "minimum": (np.minimum, 2),
    "ones_like": (ak.ones_like, 1),
    "sin": (np.sin, 1),
    "sinh": (np.sinh, 1),
    "sqrt": (np.sqrt, 1),
    "tan": (np.tan, 1),
    "tanh": (np.tanh, 1),
    "where": (ak.where, 3),
    "zeros_like": (ak.zeros_like, 1),
}
"""Function name -> (implementation, number of arguments; None for one or more)."""

CONSTANTS: Final[Mapping[str, float]] = {"pi": float(np.pi)}

_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
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

    def evaluate(self, columns: Mapping[str, Any]) -> Any:
        """Evaluate over columns of equal length.

        Parameters
        ----------
        columns
            Branch name -> awkward array, flat (n,) or jagged (n, var). Numbers are widened to
            float64 first, so that the result does not depend on how the file stores them.

        Returns
        -------
        awkward.Array or float
            Values per event or per object; division by zero and the like give NaN or infinity.

        Raises
        ------
        ExpressionError
            A branch is missing, or the columns cannot be combined.
        """
        missing = sorted(self.names - set(columns))
        if missing:
            raise ExpressionError(f"expression '{self.text}' needs branch '{missing[0]}', which was not read")
        wide = {name: ak.values_astype(columns[name], np.float64) for name in self.names}
        try:
            with np.errstate(all="ignore"):
                return _evaluate(self.root, wide)
        except (ValueError, TypeError, OverflowError, ZeroDivisionError, IndexError) as error:
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ExpressionError(f"expression '{self.text}' cannot be evaluated: {cause}") from error


def parse(text: str) -> Expression:
    """Parse and check one expression.

    Raises
    ------
    ExpressionError
        The text is not in the language; the message says which part and what is allowed.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"expression of {len(text)} characters: write at most {MAX_LENGTH}")
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"expression '{text}' is not valid arithmetic: check its brackets") from error
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
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            children = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            children = [operand]
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            children = [left, right]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            _check_call(name, arguments, text)
            children = arguments
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            children = []
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise ExpressionError(f"expression '{text}': '{name}' is a function, give it arguments")
            if name not in CONSTANTS:
                found.add(name)
            children = []
        case _:
            part = ast.unparse(node)
            raise ExpressionError(
                f"expression '{text}': '{part}' is not allowed; write arithmetic on branches and numbers"
            )
    for child in children:
        _check(child, text, found)


def _check_call(name: str, arguments: list[ast.expr], text: str) -> None:
    if name not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        raise ExpressionError(f"expression '{text}': unknown function '{name}'; known are {known}")
    wanted = FUNCTIONS[name][1]
    if (wanted is not None and len(arguments) != wanted) or not arguments:
        raise ExpressionError(
            f"expression '{text}': {name} takes {wanted or 'one or more'} arguments, not {len(arguments)}"
        )


def _evaluate(node: ast.expr, columns: Mapping[str, Any]) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left, columns), _evaluate(right, columns))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_evaluate(operand, columns))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_evaluate(left, columns), _evaluate(right, columns))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name][0](*(_evaluate(argument, columns) for argument in arguments))
        case ast.Constant(value=int() | float() as value):
            # float, so that a tower of powers overflows at once instead of filling the memory
            return float(value)
        case ast.Name(id=name):
            return CONSTANTS[name] if name in CONSTANTS else columns[name]
    raise ExpressionError(f"'{ast.unparse(node)}' was not checked before evaluation")
