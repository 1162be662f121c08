"""Is it the same run? What decides, and what is said."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from featpur_sim import FGM, PGD, AdversarialPhase, CleanPhase, __version__
from featpur_sim.models.losses import hinge_loss
from featpur_sim.training.bias import LinearRamp
from featpur_sim.training.identity import (
    Identity,
    can_read,
    identify,
    identify_settings,
    in_words,
    software,
    software_change,
)

POINTS = "aaaaaaaaaaaa"


def test_versions_are_compared_one_by_one():
    old = Identity("featpur_sim 0.1.0, jax 0.9, Python 3.11", b"a")
    new = Identity("featpur_sim 0.1.0, jax 0.10, numpy 2.1, Python 3.12", b"a")
    found = old.difference(new)
    # numpy: the old one does not say.
    assert found is not None and found.what == "jax 0.9 → 0.10; Python 3.11 → 3.12"
    assert found.undo == "install those versions"
    assert Identity("", b"a").difference(new) is None is new.difference(new)
    assert software_change(software(), software()) == ""
    assert "numpy absent → 2.1" in software_change(old.software, new.software)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ({"settings": {"a": 1}}, {"settings": {"a": 2}}, "a 1 → 2"),
        ({"settings": {"a": 1}}, {"settings": {"b": 1}}, "a 1 → absent; b absent → 1"),
        # The settings explain it: what follows from them is not repeated.
        ({"settings": {"a": 1}, "parts": {"b": 1}}, {"settings": {"a": 2}, "parts": {"b": 2}},
         "a 1 → 2"),
        ({"settings": {"a": 1}, "parts": {"b": 1}}, {"settings": {"a": 1}, "parts": {"b": 2}},
         "b 1 → 2"),
        ({}, {"settings": {"a": 1}}, "settings, seeds or code"),
    ],
)  # fmt: skip
def test_the_digest_decides_and_the_words_explain(old, new, what):
    found = identify(1, **old).difference(identify(2, **new))
    assert found is not None and found == (what, "undo the change")
    assert identify(1, **old).difference(identify(1, **new)) is None


def test_a_difference_is_one_short_line():
    old, new = ({f"s{i}": "x" * 500 + f"\n{v}{i}" for i in range(9)} for v in (1, 2))
    found = identify(1, settings=old).difference(identify(2, settings=new))
    assert found is not None and found.what.endswith("; 5 more")
    assert "\n" not in found.what and len(found.what) < 700


def test_plain_settings_and_what_stands_behind_them():
    one = identify_settings("jax 1", {"axes": {"d": [1, 2]}}, POINTS)
    assert one.difference(identify_settings("jax 1", {"axes": {"d": [1, 2]}}, POINTS)) is None
    for other, what in (
        (identify_settings("jax 1", {"axes": {"d": [1, 3]}}, POINTS), "axes.d [1, 2] → [1, 3]"),
        (identify_settings("jax 2", {"axes": {"d": [1, 2]}}, POINTS), "jax 1 → 2"),
        (identify_settings("jax 1", {"axes": {"d": [1, 2]}}, "bbbbbbbbbbbb"), "behind the points"),
    ):
        found = one.difference(other)
        assert found is not None and what in found.what


def test_every_kind_of_value_has_words_that_change_with_it():
    key = jax.random.key(0)

    def phases(**changes):
        settings = {"optimizer": optax.sgd, "bias": LinearRamp(0.1)} | changes
        return {"clean": CleanPhase(20, **settings)}

    pairs = [
        (phases(), phases(optimizer=optax.adam), ["clean.optimizer"]),
        (phases(), phases(loss=hinge_loss), ["clean.loss"]),
        (phases(), phases(bias=LinearRamp(0.2)), ["clean.bias.stop"]),
        (phases(), phases(learning_rate=0.4), ["clean.learning_rate"]),
        ({"a": FGM(0.1)}, {"a": PGD(0.1)}, ["a"]),
        ({"a": key}, {"a": jax.random.key(1)}, ["a"]),
        ({"a": jnp.arange(3)}, {"a": jnp.arange(3.0)}, ["a"]),
        ({"a": np.full(3, 0.1, np.float32)}, {"a": np.full(3, 0.2, np.float32)}, ["a"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b"]),
        ({"a": lambda x: x}, {"a": lambda x: 2 * x}, ["a"]),
    ]
    for one, other, where in pairs:
        before, after = in_words(one), in_words(other)
        assert [name for name in before if before[name] != after.get(name)][:1] == where
        assert before == in_words(one)
    phase = in_words({"p": AdversarialPhase(FGM(0.1), 20)})
    assert phase["p.attack.ball.radius"] == "0.1" and phase["p.steps"] == "20"


@pytest.mark.parametrize("version", [None, 1.0, "", "99.0.0", "0.0.9"])
def test_files_of_another_series_cannot_be_read(version):
    assert not can_read(version)


def test_files_of_this_series_can_be_read():
    assert can_read(__version__) and can_read(__version__.rsplit(".", 1)[0] + ".77")
