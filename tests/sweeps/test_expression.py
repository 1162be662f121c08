"""Expressions: they compute what Python would, and nothing else can get through."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from featpur_sim.sweeps.expression import LONGEST, Expression, ExpressionError

VALUES = {"d": 64.0, "k": 5.0, "problem.k": 5.0, "x": -2.5}
FUNCTIONS = {
    name: getattr(math, name) for name in ("sqrt", "log", "log2", "log10", "exp", "floor", "ceil")
} | {"abs": abs, "round": round, "min": min, "max": max, "pi": math.pi}


def value(text):
    return Expression(text)(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d**0.4", 64**0.4),
        ("0.3/sqrt(k)", 0.3 / math.sqrt(5)),
        ("0.3/sqrt(problem.k)", 0.3 / math.sqrt(5)),
        ("-2**2", -4.0),
        ("2**-2**2", 2**-4),
        ("7 // 2 + 7 % 4", 6.0),
        ("-7 // 2", -4.0),
        (" min(d, k, 3) + max(k, d) ", 67.0),
        ("round(2.6) + floor(-0.5) + ceil(0.5)", 3.0),
        ("pi", math.pi),
        ("1e-3", 1e-3),
    ],
)
def test_value(text, expected):
    assert value(text) == expected


_LEAVES = st.sampled_from(["d", "k", "x", "pi", "2", "0.5", "1e3", "7"])


def _compound(inner):
    pairs = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner)
    calls = st.tuples(st.sampled_from(["sqrt", "log", "log2", "exp", "abs", "floor"]), inner)
    return st.one_of(
        pairs.map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        calls.map(lambda c: f"{c[0]}({c[1]})"),
        inner.map(lambda e: f"(-{e})"),
    )


@given(st.recursive(_LEAVES, _compound, max_leaves=8))
def test_agrees_with_python(text):
    """Python's own evaluator, in floats, is the referee."""
    names = {name: v for name, v in VALUES.items() if "." not in name} | FUNCTIONS
    floats = text.replace("2", "2.0").replace("7", "7.0")
    floats = floats.replace("log2.0", "log2")
    try:
        expected = eval(floats, {"__builtins__": {}}, names)
    except (ArithmeticError, ValueError, TypeError):
        expected = math.nan  # a complex number has no floor and no order
    if isinstance(expected, complex) or not math.isfinite(expected):
        with pytest.raises(ExpressionError, match="no finite real value"):
            value(text)
    else:
        # log of an integer is not always log of its float in the last place.
        assert value(text) == pytest.approx(expected, rel=1e-12)


EVIL = [
    "__import__('os').system('true')",
    "().__class__.__bases__",
    "(1).real",
    "d.__class__()",
    "[x for x in (1, 2)]",
    "lambda: 1",
    "d if k else x",
    "d and k",
    "not d",
    "d < k",
    "~1",
    "1 << 9",
    "3 @ 4",
    "True",
    "None",
    "...",
    "'text'",
    "b'1'",
    "f'{d}'",
    "1j",
    "(d := 3)",
    "d; k",
    "d = 3",
    "d[0]",
    "{d}",
    "sqrt",
    "sqrt()",
    "sqrt(1, 2)",
    "sqrt(x=1)",
    "sqrt(*[1])",
    "max(**{})",
    "min(1)",
    "eval('1')",
    "open('/etc/passwd')",
    "sqrt(sqrt)(2)",
    "await d",
    "yield",
    "",
    " ",
    "1 +",
    "0777",
    "1if",
    "d\x00",
    "\ud800",
    "(" * 150 + "1" + ")" * 150,
    "-" * 150 + "1",
    "+".join("1" * 99),
    "1" * (LONGEST + 1),
]


@pytest.mark.parametrize("text", EVIL)
def test_what_is_not_arithmetic_is_refused_when_read(text):
    if text == "sqrt":  # a name like any other, until it is looked up
        with pytest.raises(KeyError):
            value(text)
        return
    with pytest.raises(ExpressionError) as caught:
        Expression(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["9**9**9", "9**9**9**9", "10**400", "1e999", "1/0", "1%0", "1//0", "0**-1", "exp(1e9)",
     "log(0)", "log(x)", "sqrt(x)", "x**0.5", "1e308*10", "1e999 - 1e999"],
)  # fmt: skip
def test_no_finite_value(text):
    with pytest.raises(ExpressionError, match="no finite real value"):
        value(text)


def test_names_in_order_and_once():
    assert Expression("k*problem.k + d/k + pi").names == ("k", "problem.k", "d")
