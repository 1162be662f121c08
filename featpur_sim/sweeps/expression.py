"""Arithmetic in the fields of a run, such as ``0.3/sqrt(k)`` (docs/how-to/sweep.md).

An expression is read as a syntax tree and walked by hand: only numbers, names, arithmetic and a
dozen functions exist, so nothing can be executed, imported or reached through an attribute. Every
number is a float, so no power can grow without bound; length and size are capped.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping

LONGEST = 200
LARGEST = 100

_BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type, Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_ONE_ARGUMENT: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "exp": math.exp,
    "abs": abs,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}
_SOME_ARGUMENTS: dict[str, Callable[..., float]] = {"min": min, "max": max}
FUNCTIONS = (*_ONE_ARGUMENT, *_SOME_ARGUMENTS)
CONSTANTS = {"pi": math.pi}


class ExpressionError(ValueError):
    """An expression that is not arithmetic, or has no finite value."""


class Expression:
    """One expression, checked when it is made.

    Args:
        text: numbers, names (dotted ones too), ``+ - * / // % **``, parentheses, `FUNCTIONS`, pi.

    Raises:
        ExpressionError: it is anything else, longer than `LONGEST` characters or larger than
            `LARGEST` nodes.

    >>> Expression("0.3/sqrt(problem.k)")(lambda name: 9.0)
    0.1
    """

    def __init__(self, text: str):
        self.text = text
        if len(text) > LONGEST:
            raise ExpressionError(f"is longer than {LONGEST} characters: shorten it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "invalid decimal literal" and its like
                self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ExpressionError("is not arithmetic: write something like '0.3/sqrt(k)'") from None
        if sum(1 for _ in ast.walk(self._tree)) > LARGEST:
            raise ExpressionError(f"has more than {LARGEST} parts: shorten it")
        self.names = _names(self._tree)
        """The names it reads, in the order in which they appear."""

    def __call__(self, read: Callable[[str], float]) -> float:
        """The value, with ``read`` giving the value of each name.

        Raises:
            ExpressionError: the value is not a finite real number.
        """
        names = CONSTANTS | {name: float(read(name)) for name in self.names}
        try:
            value = _value(self._tree, names)
        except (ZeroDivisionError, OverflowError):
            value = math.inf
        except ValueError:  # what math says of log(-1)
            value = math.nan
        if not math.isfinite(value):
            raise ExpressionError("has no finite real value here")
        return value


def _names(node: ast.AST) -> tuple[str, ...]:
    """The names below a node; an error if anything there is not arithmetic."""
    name = _dotted(node)
    if name is not None:
        return () if name in CONSTANTS else (name,)
    found = (name for part in _parts(node) for name in _names(part))
    return tuple(dict.fromkeys(found))


def _parts(node: ast.AST) -> list[ast.expr]:
    """The operands of a node that is no name; an error if it is not arithmetic."""
    match node:
        case ast.Constant(value=bool()):
            pass  # an int to Python, not to arithmetic
        case ast.Constant(value=int() | float()):
            return []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return [operand]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise ExpressionError(f"calls {name!r}: the functions are {', '.join(FUNCTIONS)}")
            if (len(args) == 1) != (name in _ONE_ARGUMENT) or not args:
                raise ExpressionError(f"calls {name} with {len(args)} arguments")
            return args
    raise ExpressionError(
        f"holds {ast.unparse(node)!r}, which is not arithmetic: use numbers, fields of the run, "
        f"+ - * / // % **, parentheses, pi and {', '.join(FUNCTIONS)}"
    )


def _dotted(node: ast.AST) -> str | None:
    """``problem.k`` as it was written; None if it is not a plain dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (front := _dotted(node.value)) is not None:
        return f"{front}.{node.attr}"
    return None


def _value(node: ast.AST, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, op=op, right=right):
            result = _BINARY[type(op)](_value(left, names), _value(right, names))
            # A fractional power of a negative number is complex.
            return math.nan if isinstance(result, complex) else result
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, names))
        case ast.Call(func=ast.Name(id=name), args=args):
            function = _ONE_ARGUMENT.get(name) or _SOME_ARGUMENTS[name]
            return float(function(*[_value(argument, names) for argument in args]))
    return names[_dotted(node) or ""]
