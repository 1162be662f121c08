"""Settings: every wrong one is a single clear message, every right one survives its own file."""

import copy
import tomllib

import equinox as eqx
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from featpur_sim import FGM, AdversarialPhase, CleanPhase
from featpur_sim.data.laws import GaussianTwin, TwoLevel, UniformMagnitude
from featpur_sim.runs import experiment
from featpur_sim.runs.config import (
    ConfigError,
    LinearRampConfig,
    NamedLawProblem,
    RunConfig,
    dump,
    load,
    parse,
    scaled,
)
from featpur_sim.runs.memory import estimate_memory, require_memory
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.runs.starter import STARTER
from featpur_sim.training.bias import Frozen, LinearRamp, PerNeuron

MISSING = object()


def changed(path, value):
    """The starter file's settings with one entry replaced, added or (MISSING) removed."""
    found = copy.deepcopy(tomllib.loads(STARTER))
    *sections, name = path.split(".")
    section = found
    for part in sections:
        section = section[part]
    if value is MISSING:
        del section[name]
    else:
        section[name] = value
    return found


def message_of(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?"))
    return message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("seeds", 0, ["seeds = 0", "greater than or equal to 1"]),
        ("seeds", True, ["seeds = true", "whole number"]),
        ("seed", 2**31, ["seed = 2147483648", "less than 2147483648"]),
        ("name", 5, ["name = 5", "text, in quotes"]),
        ("problem.d", "64", ["problem.d = '64'", "whole number"]),
        ("problem.d", 64.5, ["problem.d = 64.5", "whole number"]),
        ("problem.d", 1, ["problem.d = 1", "2"]),
        ("problem.d", 10**30, ["problem.d = 1000", "2147483647"]),
        ("problem.k", 70, ["problem.k = 70", "problem.d = 64", "lower k or raise d"]),
        ("problem.k", 0.5, ["problem.k = 0.5", "1"]),
        ("problem.k", float("nan"), ["problem.k = nan", "finite"]),
        ("problem.sigma_x", -0.1, ["problem.sigma_x = -0.1", "greater than or equal to 0"]),
        ("problem.sigma_x", 1e300, ["problem.sigma_x = 1e+300", "1e+30"]),
        ("problem.draw", "each", ["problem.draw = 'each'", "'shared' or 'per-seed'"]),
        ("problem.dictionary", "haar ", ["problem.dictionary = 'haar '", "'haar'", "'dct'"]),
        ("problem.law", "levles", ["problem.law = 'levles'", "'two-level', ", " or 'own'"]),
        ("problem.law", [1], ["problem.law = [1]", "'two-level', ", " or 'own'"]),
        ("problem.law", "levels", ["problem.levels is missing: law 'levels' needs levels"]),
        ("problem.law", "levels", ["problem.rates is missing: law 'levels' needs rates"]),
        ("problem.levels", [0.5], ["problem.levels = [0.5]", "'two-level' does not read levels"]),
        ("problem.rates", [0.5], ["('levels' would): take it out, or change law"]),
        ("network.neurons", 0, ["network.neurons = 0", "1"]),
        ("network.sigma_0", 0.0, ["network.sigma_0 = 0.0", "greater than 0"]),
        ("network.smoothing", "soft", ["network.smoothing = 'soft'", "'sampled'"]),
        ("clean.steps", 10**12, ["clean.steps = 1000000000000", "2147483647"]),
        ("clean.learning_rate", 0, ["clean.learning_rate = 0", "greater than 0"]),
        ("clean.weight_decay", -1e-4, ["clean.weight_decay = -0.0001", "0"]),
        ("clean.microbatch", 100, ["microbatch = 100", "divide batch = 512"]),
        ("clean.optimizer", "sdg", ["clean.optimizer = 'sdg'", "'sgd'"]),
        ("clean.bias.stop", -1, ["clean.bias.stop = -1", "0"]),
        ("clean.bias.stop", MISSING, ["clean.bias.stop is missing", "'linear-ramp' needs stop"]),
        ("clean.bias", {}, ["clean.bias.stop is missing", "'linear-ramp' needs stop"]),
        ("clean.bias.begin", 0.1, ["clean.bias.begin = 0.1", "'linear-ramp' does not read begin"]),
        ("clean.bias.begin", 0.1, ["('per-neuron' would): take it out, or change schedule"]),
        ("clean.bias.schedule", "per-neuron", ["'per-neuron' does not read fraction"]),
        (
            "clean.bias.schedule",
            "frozen",
            ["does not read stop ('linear-ramp', 'per-neuron' would"],
        ),
        (
            "clean.bias.schedule",
            "ramp",
            ["clean.bias.schedule = 'ramp'", "'tabulated' or 'frozen'"],
        ),
        ("clean.bias.schedule", True, ["clean.bias.schedule = true", "'tabulated' or 'frozen'"]),
        (
            "clean.bias",
            {"schedule": "per-neuron", "stop": 0.0},
            ["clean.bias.stop = 0.0", "than 0"],
        ),
        ("clean.bias", 3, ["clean.bias = 3", "section"]),
        ("clean", MISSING, ["clean is missing", "featpur init"]),
        ("adversarial.radius", -0.1, ["adversarial.radius = -0.1", "greater than 0"]),
        ("adversarial.radius", 0, ["adversarial.radius = 0", "greater than 0"]),
        ("adversarial.radius", MISSING, ["adversarial.radius is missing", "featpur init"]),
        ("adversarial.rank", 0, ["adversarial.rank = 0", "1"]),
        ("adversarial.rank", 65, ["adversarial.rank = 65 exceeds 64", "lower it, or leave it out"]),
        ("adversarial.norm", "l1", ["adversarial.norm = 'l1'", "'l2' or 'linf'"]),
        ("evaluation.samples", 10, ["evaluation.samples = 10", "100"]),
        ("evaluation.radii", [0.0, 2.0], ["evaluation.radii = [0.0, 2.0]", "hold 0 and 1"]),
        ("evaluation.radii", [0.0, 2.0, 1.0], ["radii must rise strictly"]),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(path, value, words):
    message = message_of(parse, changed(path, value)).lower()
    assert [word for word in words if word.lower() not in message] == []


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("sedes", "seeds"),
        ("problem.sigmax", "sigma_x"),
        ("network.neuron", "neurons"),
        ("clean.learning_rat", "learning_rate"),
        ("clean.bias.schedul", "schedule"),
        ("adversarial.raduis", "radius"),
        ("evaluation.pgd_step", "pgd_steps"),
    ],
)
def test_an_unknown_key_gets_a_did_you_mean(path, near):
    assert message_of(parse, changed(path, 1)) == f"{path} is not a setting: did you mean '{near}'?"


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("clean", "steps", 2e3, "clean.steps = 2000.0 is written as a number with a fraction, as "
         "2e3 is: write 2000."),
        ("clean", "steps", 2.5, "clean.steps = 2.5: must be a whole number"),
        ("clean", "steps", True, "clean.steps = true: must be a whole number"),
        ("problem", "k", "3", "problem.k = '3': must be a number, such as 0.5: no quotes."),
        ("clean", "bias", 3, "clean.bias = 3: must be a section"),
        ("evaluation", "radii", 1.0, "evaluation.radii = 1.0: must be a list"),
        ("problem", "wstar_range", 1.0, "problem.wstar_range = 1.0: must be a list of two"),
        ("clean", "steps", 0, "clean.steps = 0: must be greater than or equal to 1."),
        ("problem", "wstar", "x", "problem.wstar = 'x': must be 'signs', 'uniform' or 'own'."),
    ],
)  # fmt: skip
def test_a_wrong_kind_of_value_is_said_in_plain_words(tiny, section, name, value, words):
    with pytest.raises(ConfigError) as stop:
        parse(tiny(**{section: {name: value}}))
    assert words in str(stop.value) and "input" not in str(stop.value).lower()


def test_an_unknown_key_like_no_other_gets_the_known_ones():
    message = message_of(parse, changed("network.zzz", 1))
    assert message.startswith("network.zzz is not a setting: known: neurons, sigma_0,")


def test_a_key_with_a_line_break_stays_on_one_line():
    assert message_of(parse, changed("a\nb", 1)).startswith(r"'a\nb' is not a setting")


def test_every_wrong_setting_is_listed_at_once():
    bad = changed("problem.d", 1) | {"seeds": 0}
    message = message_of(parse, bad)
    assert "problem.d = 1" in message and "seeds = 0" in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("problem.wstar", "uniform", ["problem.wstar_range"]),
        ("problem.wstar_range", [0.5, 2.0], ["problem.wstar = 'uniform'"]),
        ("problem.features", 128, ["D=128", "d=64", "incoherent"]),
        ("problem.features", 32, ["D=32", "d=64"]),
        ("problem.p_one", 100.0, ["1.64", "p_one"]),
        ("network.smoothing", "closed", ["sigma_rho > 0", "0.0"]),
        ("network.sigma_rho", 0.1, ["sigma_rho=0.1", "'closed'"]),
        ("clean.bias.start", 0.1, ["LinearRamp", "0.1", "0.06"]),
        (
            "clean.bias",
            {"schedule": "tabulated", "fractions": [0.0, 0.5], "values": [0.0, 0.1]},
            ["Tabulated", "from 0 to 1"],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_computing(
    path, value, words, unchecked
):
    message = message_of(experiment.check, parse(changed(path, value)))
    assert [word for word in words if word not in message] == []


def test_hadamard_needs_a_power_of_two():
    config = parse(changed("problem.dictionary", "hadamard"))
    experiment.check(config)
    odd = config.model_copy(update={"problem": config.problem.model_copy(update={"d": 60})})
    assert "power of two, got d=60" in message_of(experiment.check, odd)


@pytest.mark.parametrize(
    "change",
    [
        ("problem.d", 2_000_000),
        ("clean.batch", 2**31 - 1),
        ("adversarial.dataset_size", 2**31 - 1),
        ("evaluation.samples", 2**31 - 1),
        ("network.neurons", 2**31 - 1),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_anything_is_allocated(change, monkeypatch):
    def touched(config, seed):
        raise AssertionError("the problem was built first")

    monkeypatch.setattr(experiment, "make_problem", touched)
    message = message_of(experiment.check, parse(changed(*change)))
    assert "GiB" in message and "lower seeds, network.neurons or problem.d" in message


def test_the_memory_estimate_counts_what_a_run_keeps():
    small = parse(changed("seeds", 5))
    need = estimate_memory(small)
    # Three phases and four snapshots of the weights are kept to the end, in float32.
    assert need > 7 * 4 * 5 * 256 * 64
    for path, value in [
        ("seeds", 10),
        ("network.neurons", 512),
        ("clean.batch", 4096),
        ("clean.dataset_size", 10_000),
        ("evaluation.samples", 10_000),
        ("problem.dictionary", "haar"),
    ]:
        assert estimate_memory(parse(changed(path, value))) > need, path
    cut = changed("clean.batch", 8192)
    cut["clean"]["microbatch"] = 256
    assert estimate_memory(parse(cut)) == need
    require_memory(small)


def refusal(tmp_path, content):
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    return message_of(load, path), path


def test_a_missing_file_says_how_to_make_one(tmp_path):
    message, path = refusal(tmp_path, None)
    assert message == f"{path} does not exist: 'featpur init {path}' writes a starter file."


def test_a_folder_in_place_of_a_file(tmp_path):
    assert "cannot be read: Is a directory" in message_of(load, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)),
        b"\xff\xfe\x00a",
        b"a = 1\na = 2",
        b"x = '''\n",
        b"seed = " + b"9" * 5000,
        b"a = " + b"[" * 20_000,
        b"a = " + b"{a = " * 5_000,
    ],
    ids=["bytes", "utf-16", "twice", "open", "digits", "nested lists", "nested tables"],
)
def test_a_file_that_is_not_toml(tmp_path, content):
    message, path = refusal(tmp_path, content)
    assert message.startswith(f"{path} is not valid TOML: ")


def test_an_empty_file_misses_the_four_sections(tmp_path):
    message, _ = refusal(tmp_path, b"")
    assert message.count("is missing") == 4


TOKENS = st.sampled_from(
    [
        *("-1", "0", "nan", "inf", "true", "1e999", "''", '"l2"', "[]", "[[1]]", "{}", "{a=1}"),
        *("=", "#", "9" * 400, "9" * 5000, "1979-05-27", "\x00", "\\", '"\\n"', "problem"),
        *("[clean]", "0x10"),
    ]
)


@st.composite
def mutated(draw):
    """The starter file with a few lines dropped, doubled, cut or given another value."""
    lines: list[str] = list(STARTER.splitlines())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        kind = draw(st.sampled_from(["drop", "double", "value", "key", "cut", "noise"]))
        if kind == "drop":
            lines[at] = ""
        elif kind == "double":
            lines.insert(at, line)
        elif kind == "value":
            lines[at] = f"{line.partition('=')[0]}= {draw(TOKENS)}"
        elif kind == "key":
            lines[at] = f"{draw(st.text(max_size=6))}{line[1:]}"
        elif kind == "cut":
            lines[at] = line[: draw(st.integers(0, len(line)))]
        else:
            lines[at] = line + draw(st.text(max_size=8))
    return "\n".join(lines)


def test_a_damaged_file_is_a_valid_run_or_one_message(tmp_path):
    path = tmp_path / "fuzz.toml"
    valid = []

    @settings(max_examples=300)
    @given(text=mutated())
    def load_one(text):
        path.write_bytes(text.encode())
        try:
            config = load(path)
        except ConfigError as error:
            assert "\n" not in str(error)
            valid.append(False)
        else:
            assert parse(tomllib.loads(dump(config))) == config
            valid.append(True)

    load_one()
    assert min(valid.count(True), valid.count(False)) >= 50


@given(
    d=st.integers(2, 10_000),
    k=st.floats(1, 2),
    rate=st.floats(1e-6, 1e3),
    radius=st.floats(1e-6, 10),
    seed=st.integers(0, 2**31 - 1),
    optimizer=st.sampled_from(["sgd", "adam", "lion"]),
    levels=st.none() | st.lists(st.floats(0.01, 1), min_size=1, max_size=3),
    wstar_range=st.none() | st.tuples(st.floats(0.1, 1), st.floats(1, 2)),
)
def test_a_config_equals_what_its_own_file_says(
    d, k, rate, radius, seed, optimizer, levels, wstar_range
):
    found = tomllib.loads(STARTER) | {"seed": seed}
    found["problem"] |= {"d": d, "k": k}
    if levels is not None:
        found["problem"] |= {"law": "levels", "levels": levels, "rates": [1.0] * len(levels)}
    if wstar_range is not None:
        found["problem"] |= {"wstar": "uniform", "wstar_range": wstar_range}
    found["clean"] |= {"learning_rate": rate, "optimizer": optimizer}
    found["adversarial"]["radius"] = radius
    config = parse(found)
    assert config.problem.k == k and config.adversarial.radius == radius
    again = parse(tomllib.loads(dump(config)))
    assert again == config and dump(again) == dump(config)
    # A config's own dictionary is one of its forms too.
    assert parse(config.model_dump()) == config


@pytest.mark.parametrize("config", [dense_regime(), sparse_regime(monotone=True)])
def test_presets_survive_their_own_file(config, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path) == config
    # Defaults are written out: a later version with others still repeats the run.
    written = tomllib.loads(dump(config))
    assert written["evaluation"]["samples"] == 1000 and written["clean"]["optimizer"] == "sgd"


BIASES = {
    "linear-ramp": {"start": 0.01, "stop": 0.05, "fraction": 0.3},
    "per-neuron": {"start": 1.0, "stop": 0.2, "begin": 0.5, "ceiling": 0.4, "monotone": False},
    "tabulated": {"fractions": [0.0, 1.0], "values": [0.0, 0.1]},
    "frozen": {"start": 0.1},
}
# What checkpoints and sweeps hash: the order counts too.
BIAS_SETTINGS = [
    "schedule", "start", "stop", "fraction", "begin", "end", "ceiling", "monotone", "fractions",
    "values",
]  # fmt: skip
PROBLEM_SETTINGS = (
    "d k sigma_x features law p_one levels rates of "
    "parameters wstar wstar_range wstar_values wstar_file "
    "dictionary dictionary_values dictionary_file draw"
).split()  # fmt: skip


@pytest.mark.parametrize("schedule", BIASES)
def test_a_schedule_is_written_back_as_it_was_given(tiny, schedule):
    given = {"schedule": schedule, **BIASES[schedule]}
    config = parse(tiny(clean={"bias": given}))
    written = tomllib.loads(dump(config))["clean"]["bias"]
    assert list(written.items()) == list(given.items())
    own = config.model_dump()["clean"]["bias"]
    assert list(own.items()) == [(name, given.get(name)) for name in BIAS_SETTINGS]
    assert parse(config.model_dump()) == config
    # Settings that are left out stay out of the file, and out of what identifies the run.
    needed = {name: given[name] for name in given if name not in ("start", "fraction", "begin")}
    least = parse(tiny(clean={"bias": needed}))
    assert tomllib.loads(dump(least))["clean"]["bias"] == needed


def test_the_schedule_and_the_law_have_a_default(tiny):
    config = parse(tiny())
    assert config.clean.bias == LinearRampConfig(stop=0.05)
    assert tomllib.loads(dump(config))["clean"]["bias"] == {"schedule": "linear-ramp", "stop": 0.05}
    assert isinstance(config.problem, NamedLawProblem) and config.problem.law == "two-level"


@pytest.mark.parametrize("law", ["two-level", "uniform-magnitude", "levels", "gaussian-twin"])
def test_a_law_is_written_back_as_it_was_given(tiny, law):
    levels = {"levels": [0.5, 1.0], "rates": [2.0, 1.0]} if law == "levels" else {}
    config = parse(tiny(problem={"law": law, "p_one": 0.5} | levels))
    assert list(config.model_dump()["problem"]) == PROBLEM_SETTINGS
    written = tomllib.loads(dump(config))["problem"]
    assert {"law": law, "p_one": 0.5, **levels}.items() <= written.items()
    assert ("levels" in written) == (law == "levels")
    assert list(written) == [name for name in PROBLEM_SETTINGS if name in written]
    assert parse(config.model_dump()) == parse(tomllib.loads(dump(config))) == config


def test_defaults_are_those_of_the_constructors(tiny):
    """A default stands in one place: what a file leaves out is what Python leaves out."""
    for schedule, bias in {
        "linear-ramp": LinearRamp(0.1),
        "per-neuron": PerNeuron(0.1),
        "frozen": Frozen(),
    }.items():
        given = {"schedule": schedule} | ({} if schedule == "frozen" else {"stop": 0.1})
        config = parse(tiny(clean={"bias": given}))
        assert eqx.tree_equal(experiment.make_phases(config)[0].bias, bias)
    problem = {"d": 16, "k": 4.0}
    for law in (TwoLevel(), UniformMagnitude(), GaussianTwin()):
        config = parse(tiny() | {"problem": problem | {"law": law.label}})
        assert eqx.tree_equal(experiment.make_problem(config, 1).law, law)
    least = parse(
        tiny() | {
            "clean": {"steps": 3, "bias": {"schedule": "frozen"}},
            "adversarial": {"steps": 3, "radius": 0.1},
        }
    )  # fmt: skip
    expected = [CleanPhase(3), AdversarialPhase(FGM(0.1), 3)]
    assert eqx.tree_equal(experiment.make_phases(least), expected)


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        dense_regime().seed = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_the_starter_file_says_what_the_defaults_are():
    """Every default that the starter file shows is the default of the code."""
    config = parse(tomllib.loads(STARTER))
    shown = tomllib.loads(STARTER)
    for part, values in [
        (config, shown),
        (config.problem, shown["problem"]),
        (config.network, shown["network"]),
        (config.clean.bias, shown["clean"]["bias"]),
    ]:
        for name, value in values.items():
            field = type(part).model_fields[name]
            if not field.is_required() and not isinstance(value, dict) and name != "name":
                assert value == field.default, name
    assert config.evaluation == RunConfig.model_fields["evaluation"].default
    for phase in (config.clean, config.adversarial):
        for name in ("learning_rate", "weight_decay", "batch"):
            assert getattr(phase, name) == type(phase).model_fields[name].default


def test_scaled_keeps_six_digits():
    assert scaled(1 / 3) == 0.333333
    assert scaled(float("inf")) == float("inf")
