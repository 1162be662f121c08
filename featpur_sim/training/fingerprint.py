"""Arrays, settings and functions in one number, equal in every process for equal ones."""

import dataclasses
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Their classes count by name: an identity holds their versions.
_LIBRARIES = {"featpur_sim", "jax", "jaxlib", "equinox", "optax", "numpy"} | sys.stdlib_module_names

SCALAR = types.NoneType | bool | int | float | complex | str | bytes
ARRAY = jax.Array | np.ndarray | np.generic


def fingerprint(tree: Any, *extra: Any) -> np.ndarray:
    """SHA-256, as 32 bytes, of every array, static setting and function of some values.

    Equal values have equal fingerprints in every process with the same versions of Python and the
    libraries. A function counts with its code, its defaults and what it encloses, but not with the
    globals that it reads; one of this package by its name and what it encloses. A class counts with
    its methods, one of this package or a library by its name.

    Raises:
        ValueError: a value, such as a compiled program, cannot be told from others of its type.
    """
    digest = hashlib.sha256()
    _Walk(digest.update).value((tree, extra))
    return np.frombuffer(digest.digest(), np.uint8)


class _Walk:
    """One walk over nested values; each part is written with its type and its length."""

    def __init__(self, write: Callable[[bytes], None]):
        self._write = write
        # Kept, not their ids alone: the id of a value that is gone may come again.
        self._open: list[Any] = []

    def _word(self, *words: Any) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            self._write(f"{len(data)}:".encode() + data)

    def value(self, value: Any) -> None:
        if isinstance(value, SCALAR):
            self._word(type(value).__qualname__, value if isinstance(value, bytes) else repr(value))
        elif any(value is outer for outer in self._open):
            self._word("again")  # a function that encloses itself
        else:
            self._open.append(value)
            self._nested(value)
            self._open.pop()

    def _nested(self, value: Any) -> None:
        if isinstance(value, ARRAY):
            self._array(value)
        elif isinstance(value, Mapping):
            self._word("mapping", len(value))
            for key in value:
                self.value(key)
                self.value(value[key])
        elif isinstance(value, tuple | list):
            self._word(name_of(type(value)), len(value))
            for item in value:
                self.value(item)
        elif isinstance(value, set | frozenset):
            # In no order of their own; two processes give two.
            self._word("set", *sorted(fingerprint(item).tobytes() for item in value))
        elif isinstance(value, functools.partial):
            self._all("partial", value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            self._all("method", value.__self__, value.__func__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.CodeType):
            self._all("code", value.co_code, value.co_names, value.co_consts)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.BuiltinFunctionType | types.ModuleType | np.ufunc):
            self._word(name_of(value))
        elif isinstance(value, np.dtype):
            self._word("dtype", value)
        elif dataclasses.is_dataclass(value):  # every equinox module is one
            fields = [field.name for field in dataclasses.fields(value)]
            self.value(type(value))
            self.value({name: getattr(value, name, None) for name in fields})
        elif hasattr(value, "__wrapped__"):  # what jax.jit and its like return
            self._all(name_of(type(value)), value.__wrapped__)
        else:
            self._object(value)

    def _all(self, kind: str, *values: Any) -> None:
        self._word(kind)
        for value in values:
            self.value(value)

    def _class(self, kind: type) -> None:
        self._word("class", name_of(kind))
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in _LIBRARIES:
                continue
            for name, item in sorted(vars(base).items()):
                method = inspect.unwrap(getattr(item, "__func__", getattr(item, "fget", item)))
                # What dataclasses write is of no file; the fields that it is made of count.
                if isinstance(method, types.FunctionType) and _file(method) != "<string>":
                    self._all("method", name, method)

    def _function(self, function: types.FunctionType) -> None:
        if str(function.__module__).partition(".")[0] == __name__.partition(".")[0]:
            # Ours, of the version that an identity holds; a type checker may have wrapped it.
            own = inspect.unwrap(function)
            enclosed = [_contents(cell) for cell in own.__closure__ or ()]
            self._all("ours", own.__module__, name_of(own), enclosed)
            return
        enclosed = [_contents(cell) for cell in function.__closure__ or ()]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        self._all("function", name_of(function), function.__code__)
        if hasattr(function, "__wrapped__"):
            # A decorator may hold machinery, such as a type checker, that has no value of its own.
            self.value(function.__wrapped__)
            enclosed, defaults = (list(filter(_is_plain, part)) for part in (enclosed, defaults))
        self._all("with", enclosed, defaults)

    def _array(self, array: Any) -> None:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            self._word("key", jax.random.key_impl(array))
            array = jax.random.key_data(array)
        array = np.asarray(array)
        self._word("array", array.dtype, array.shape, array.tobytes())

    def _object(self, value: Any) -> None:
        if hasattr(value, "__dict__"):
            self.value(type(value))
            self.value(vars(value))
        elif " at 0x" not in (text := repr(value)):
            self._word(name_of(type(value)), text)
        else:
            raise ValueError(
                f"{text} cannot be told from another {type(value).__name__}, so that a resumed run "
                "might mix two: for a run with a checkpoint, pass plain functions, "
                "functools.partial and equinox modules of arrays, numbers and strings."
            )


def name_of(value: Any) -> str:
    """The name of a type or a function."""
    # Without the module, which is "__main__" or not by how the same file was started.
    return getattr(value, "__qualname__", getattr(value, "__name__", repr(value)))


def _file(function: types.FunctionType) -> str:
    return function.__code__.co_filename


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, SCALAR | ARRAY)
