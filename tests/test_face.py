"""What a user sees of the package: its rooms, their names, nothing twice."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import featpur_sim

ROOMS = sorted(
    module.name
    for module in pkgutil.walk_packages(featpur_sim.__path__, "featpur_sim.")
    if module.ispkg and "._" not in module.name
)
FACES = ["featpur_sim", *(room for room in ROOMS if room != "featpur_sim.cli")]


@pytest.mark.parametrize("name", FACES)
def test_every_name_is_there_and_is_called_so(name):
    room = importlib.import_module(name)
    assert room.__doc__ and room.__all__
    for found in room.__all__:
        assert hasattr(room, found), found
    assert set(room.__all__) <= set(dir(room)) and not hasattr(room, "nonsense")


@pytest.mark.parametrize("name", FACES)
def test_every_public_module_is_an_attribute_of_its_room(name):
    room = importlib.import_module(name)
    modules = {m.name for m in pkgutil.iter_modules(room.__path__) if not m.name.startswith("_")}
    assert modules - {"cli"} <= set(room.__all__)


def test_no_name_is_both_a_module_and_something_else():
    """Whatever is imported first: a module would put itself in the place of the function."""
    for name in FACES:
        room = importlib.import_module(name)
        for module in pkgutil.iter_modules(room.__path__):
            assert getattr(room, module.name, importlib).__class__ is type(sys), module.name


def test_importing_the_package_imports_none_of_its_rooms():
    program = """
import sys, featpur_sim
ours = {name for name in sys.modules if name.startswith("featpur_sim.")}
assert ours == {"featpur_sim._version"}
assert not {"jax", "numpy", "matplotlib"} & set(sys.modules)
assert callable(featpur_sim.train) and "jax" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
