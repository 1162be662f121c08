"""Sweep files: what each notation expands to, and one line for whatever cannot be used."""

import math
import random
import tomllib

import pytest

from featpur_sim.runs.config import ConfigError, dump
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.sweeps import file as sweep_file
from featpur_sim.sweeps.axes import MOST_POINTS
from featpur_sim.sweeps.file import load, parse_sweep
from featpur_sim.sweeps.plan import make_plan

GOOD = """\
name = "window"
seed = 4
seeds = 3
preset = "dense-regime"

[axes]
"problem.d" = [32, 64]
"problem.sigma_x" = { linear = [0.1, 0.3], points = 3 }

[[zip]]
"clean.learning_rate" = [0.5, 0.25]
"clean.steps" = [100, 200]

[derived]
k = "d**0.4"
tau = "0.3/sqrt(k)"
"adversarial.steps" = "2*steps"

[run.evaluation]
samples = 200
"""


def written(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


def expand(text):
    return parse_sweep(tomllib.loads(text))


def fields(sweep, read):
    return [read(point.config) for point in sweep.points]


def test_a_whole_file(tmp_path):
    sweep = load(written(tmp_path, GOOD))
    assert (sweep.name, sweep.seed, sweep.seeds) == ("window", 4, 3)
    assert sweep.shape == (2, 3, 2) and len(sweep.points) == 12
    assert sweep.axes == (("d",), ("sigma_x",), ("clean.learning_rate", "clean.steps"))
    # The last axis is the fastest; zipped lists move together.
    assert fields(sweep, lambda c: c.problem.d) == [32] * 6 + [64] * 6
    assert fields(sweep, lambda c: c.problem.sigma_x)[:6] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert (
        fields(sweep, lambda c: (c.clean.learning_rate, c.clean.steps))
        == [
            (0.5, 100),
            (0.25, 200),
        ]
        * 6
    )
    for point in sweep.points:
        c = point.config
        assert c.problem.k == pytest.approx(c.problem.d**0.4, rel=1e-8)
        assert c.adversarial.radius == pytest.approx(0.3 / math.sqrt(c.problem.k), rel=1e-8)
        assert c.adversarial.steps == 2 * c.clean.steps
        assert c.evaluation.samples == 200
        assert point.swept["k"] == c.problem.k and point.swept["clean.steps"] == c.clean.steps


def test_a_preset_is_derived_anew_at_every_point():
    sweep = expand('preset = "sparse-regime"\naxes.d = [32, 64]\naxes.k = [3, 5]')
    for point in sweep.points:
        c = point.config
        expected = sparse_regime(c.problem.d, c.problem.k, seeds=3)
        assert c == expected.model_copy(update={"name": "sweep"})
    assert len({point.config.clean.bias.model_dump_json() for point in sweep.points}) == 2


def test_a_preset_whose_k_depends_on_what_it_derives_is_settled_or_refused():
    # m = 4d depends on d alone, so k = m/32 settles; τ depends on k.
    sweep = expand('preset = "dense-regime"\naxes.d = [64, 128]\nderived.k = "m/32"')
    assert fields(sweep, lambda c: c.problem.k) == [8, 16]
    assert fields(sweep, lambda c: c.adversarial.radius) == [
        dense_regime(64, 8).adversarial.radius,
        dense_regime(128, 16).adversarial.radius,
    ]
    with pytest.raises(ConfigError, match="must not depend on what the preset makes of them"):
        expand('preset = "dense-regime"\nderived.k = "1/tau"')


def test_run_table_overrides_the_preset_and_axes_override_the_run_table():
    sweep = expand(
        'preset = "dense-regime"\naxes.tau = [0.1, 0.2]\n[run.problem]\nd = 32\n'
        "[run.adversarial]\nradius = 0.5\nsteps = 7"
    )
    assert fields(sweep, lambda c: (c.problem.d, c.network.neurons)) == [(32, 128)] * 2
    assert fields(sweep, lambda c: c.adversarial.radius) == [0.1, 0.2]
    assert fields(sweep, lambda c: c.adversarial.steps) == [7, 7]


def test_a_base_file_is_looked_up_beside_the_sweep_and_kept_in_its_text(tmp_path):
    (tmp_path / "run.toml").write_text(dump(dense_regime(16, 3)), encoding="utf-8")
    sweep = load(written(tmp_path, 'base = "run.toml"\nseeds = 2\naxes."clean.steps" = [5, 9]'))
    assert fields(sweep, lambda c: (c.problem.d, c.seeds, c.clean.steps)) == [
        (16, 2, 5),
        (16, 2, 9),
    ]
    assert sweep.name == "sweep"
    (tmp_path / "run.toml").unlink()
    again = load(written(tmp_path, sweep.text))
    assert again.points == sweep.points and again.text == sweep.text


def test_the_seed_can_be_replaced(tmp_path):
    path = written(tmp_path, GOOD)
    assert load(path, seed=9).points[0].config.seed == 9


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{ log = [4, 64], points = 5 }", [4, 8, 16, 32, 64]),
        ("{ log = [64, 4], points = 3 }", [64, 16, 4]),
        ("{ linear = [4, 5], points = 3 }", [4, 4.5, 5]),
        ("{ linear = [4, 9], points = 1 }", [4]),
        ("[4.5]", [4.5]),
    ],
)
def test_ranges(entry, expected):
    sweep = expand(f'preset = "dense-regime"\n[axes]\nk = {entry}')
    assert fields(sweep, lambda c: c.problem.k) == pytest.approx(expected, rel=1e-8)


def test_counts_are_rounded_to_the_nearest_and_kept_once():
    sweep = expand('preset = "dense-regime"\n[axes]\nm = { log = [10, 20], points = 4 }')
    assert fields(sweep, lambda c: c.network.neurons) == [10, 13, 16, 20]
    sweep = expand(
        'preset = "dense-regime"\n[axes]\n"clean.steps" = { linear = [1, 2], points = 9 }'
    )
    assert fields(sweep, lambda c: c.clean.steps) == [1, 2]
    sweep = expand('preset = "dense-regime"\n[derived]\nm = "d/7"')
    assert sweep.points[0].config.network.neurons == round(100 / 7)


def test_any_field_of_a_run_can_be_swept():
    sweep = expand(
        'preset = "dense-regime"\n[axes]\nadversarial.norm = ["l2", "linf"]\n'
        'clean.optimizer = ["sgd", "adam"]\nrecords = [3]\nevaluation.pgd_steps = [10, 20]\n'
        "problem.wstar_range = [[0.5, 1.5]]\nproblem.wstar = ['uniform']"
    )
    assert len(sweep.points) == 8
    assert sweep.points[0].config.problem.wstar_range == (0.5, 1.5)


def test_kinds_of_a_table_can_be_swept_with_what_they_read():
    sweep = expand(
        'preset = "dense-regime"\nrun.problem.d = 16\n'
        'axes."adversarial.attack" = ["fgm", "pgd"]\n'
        '[[zip]]\n"problem.law" = ["levels"]\n"problem.levels" = [[0.5]]\n'
        '"problem.rates" = [[2.0]]'
    )
    assert fields(sweep, lambda c: (c.adversarial.attack, c.problem.law)) == [
        ("fgm", "levels"),
        ("pgd", "levels"),
    ]
    assert sweep.points[0].swept["problem.levels"] == [0.5]
    with pytest.raises(ConfigError, match=r"point 1 .*: schedule 'frozen' does not read fraction"):
        expand('preset = "dense-regime"\naxes.clean.bias.schedule = ["linear-ramp", "frozen"]')


def test_an_expression_reads_the_defaults_of_the_schedule_that_is_set():
    run = (
        "[run]\nproblem = { d = 16, k = 3 }\nnetwork.neurons = 32\n"
        "adversarial = { steps = 5, radius = 0.1 }\n"
    )
    bias = 'clean = { steps = 5, bias = { schedule = "per-neuron", stop = 0.1 } }\n'
    sweep = expand(run + bias + '[derived]\n"adversarial.steps" = "10*clean.bias.end"')
    assert fields(sweep, lambda c: c.adversarial.steps) == [20]
    with pytest.raises(ConfigError, match=r"reads clean\.bias\.end, which is None here"):
        expand(run + "clean = { steps = 5, bias.stop = 0.1 }\n"
               '[derived]\n"adversarial.steps" = "10*clean.bias.end"')  # fmt: skip


def test_features_default_to_d_in_expressions():
    sweep = expand('preset = "dense-regime"\naxes.d = [32]\nderived.m = "2*D"')
    assert sweep.points[0].config.network.neurons == 64


# --- what cannot be used --------------------------------------------------------------------------

BASE = 'preset = "dense-regime"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["starts from preset"]),
        ("seeds = 2", ["starts from preset"]),
        (BASE + "axis = 3", ["'axis'", "known", "axes"]),
        (BASE + 'base = "x.toml"', ["cannot be combined"]),
        ('preset = "sparse"', ["preset = 'sparse'", "dense-regime"]),
        ("preset = 3", ["preset = 3"]),
        ("preset = []", ["preset = []"]),
        ('base = "none.toml"', ["base = 'none.toml'", "no such file"]),
        ("base = 3", ["base = 3"]),
        (BASE + "seeds = 0", ["seeds = 0", "greater than or equal to 1"]),
        (BASE + 'seeds = "3"', ["seeds = '3'", "whole number"]),
        (BASE + "seed = -1", ["seed = -1"]),
        (BASE + "name = 3", ["name = 3", "text"]),
        (BASE + "run = 3", ["run = 3", "[run]"]),
        (BASE + "run.seed = 3", ["run.seed", "top of the file"]),
        (BASE + "run.problem = 3", ["problem = 3", "table"]),
        (BASE + "run.problem.dd = 3", ["problem.dd", "did you mean 'd'"]),
        (BASE + "axes = 3", ["axes = 3", "[axes]"]),
        (BASE + "axes.d = 32", ["problem.d = 32", "list"]),
        (BASE + "axes.d = []", ["problem.d = []", "list"]),
        (BASE + "axes.d = [32.0]", ["point 0 (d = 32.0)", "problem.d = 32.0", "write 32"]),
        (BASE + "axes.d = [32, true]", ["point 1 (d = True)", "whole number"]),
        (BASE + 'axes.d = ["32"]', ["point 0 (d = '32')", "problem.d"]),
        (BASE + "axes.k = [3, 500]", ["point 1 (k = 500)", "problem.k = 500", "exceeds"]),
        (BASE + "axes.k = [nan]", ["problem.k = nan", "finite"]),
        (BASE + "axes.k = [3]\naxes.problem.k = [4]", ["problem.k is given twice"]),
        (BASE + "axes.k = [3]\nderived.k = '3'", ["problem.k is set twice"]),
        (BASE + "axes.q = [3]", ["'q' is not a field", "tau"]),
        (BASE + "axes.problem.q = [3]", ["'problem.q' is not a field", "sigma_x"]),
        (BASE + "axes.problem.d.e = [3]", ["'problem.d.e' is not a field"]),
        (BASE + "axes.problem = [3]", ["problem is a table"]),
        (BASE + "axes.seed = [3]", ["seed is one for the whole sweep"]),
        (BASE + "axes.seeds = [3]", ["seeds is one for the whole sweep"]),
        (BASE + "axes.evaluation.radii = [[0, 1]]", ["evaluation.radii is one for"]),
        (BASE + "axes.eta = [3]", ["eta names no one phase", "adversarial.learning_rate"]),
        (BASE + "axes.k = { log = [3, 9] }", ["{ log = [a, b], points = n }"]),
        (BASE + "axes.k = { log = [0, 9], points = 3 }", ["must be > 0"]),
        (BASE + "axes.k = { log = [3, 9], points = 0 }", ["points must be an integer from 1"]),
        (BASE + "axes.k = { log = [3, 9], points = 3.0 }", ["points must be an integer"]),
        (BASE + "axes.k = { log = [3], points = 3 }", ["two finite numbers"]),
        (BASE + "axes.k = { log = [3, inf], points = 3 }", ["two finite numbers"]),
        (BASE + "axes.k = { log = [3, 9], linear = [3, 9], points = 3 }", ["a range is"]),
        (BASE + "axes.k = { linear = [3, 9], points = 99999999 }", ["points must be"]),
        (BASE + f"axes.k = {[3] * 300}\naxes.sigma_x = {[0.3] * 300}",
         ["90000 points", str(MOST_POINTS)]),
        (BASE + "zip = 3", ["zip = 3", "[[zip]]"]),
        (BASE + "zip = [3]", ["zip = [3]"]),
        (BASE + "[[zip]]\nk = [3, 4]\nd = [32]", ["problem.k has 2", "problem.d has 1"]),
        (BASE + "derived = 3", ["derived = 3"]),
        (BASE + "derived.k = [3]", ["problem.k = [3]", "expression"]),
        (BASE + "derived.k = true", ["problem.k = True", "expression"]),
        (BASE + 'derived.k = "d if d else 3"', ["problem.k = 'd if d else 3'", "not arithmetic"]),
        (BASE + 'derived.k = "q"', ["'q' is not a field"]),
        (BASE + 'derived.k = "problem"', ["problem is a table"]),
        (BASE + 'derived.k = "adversarial.norm"', ["reads adversarial.norm", "'l2'"]),
        (BASE + 'derived.k = "clean.microbatch"', ["reads clean.microbatch", "None"]),
        (BASE + 'derived.k = "k"', ["problem.k → problem.k is circular"]),
        (BASE + 'derived.k = "tau"\nderived.tau = "k"', ["is circular"]),
        (BASE + 'derived.k = "9**9**9"', ["problem.k = '9**9**9'", "no finite real value"]),
        (BASE + 'derived.adversarial.norm = "1"', ["adversarial.norm is not a number"]),
        (BASE + 'axes.d = [32]\nderived.k = "d*2"', ["point 0 (d = 32)", "problem.k = 64"]),
        ("[run]\nname = 3", ["run.name", "top of the file"]),
        ("[run.problem]\nd = 3", ["network is missing", "clean is missing"]),
        ("axes = [", ["not valid TOML"]),
        ("x = " + "[" * 5000, ["not valid TOML"]),
        (BASE + "axes." + "a." * 3000 + "b = [1]", ["nested too deeply"]),
    ],
)  # fmt: skip
def test_one_line_names_what_is_wrong(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_or_unreadable_file(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "binary"):
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


# --- fuzz -----------------------------------------------------------------------------------------

_VALUES = [
    "0", "-1", "1e400", "nan", "inf", "-0.0", "true", '""', '"9**9**9"', "'''a\nb'''", "[]", "{}",
    "[[]]", "[1, 'x']", "{ log = 3 }", "{ log = [1, 2], points = -1 }", "1979-05-27", "07:32:00",
    "123456789012345678901234567890", "[nan]", "[1e308, -1e308]", '"\\u0000"', "[{}]", "[[1], 2]",
    '"__import__(\'os\')"', '"k"', '"d.__class__"', '"(lambda: 1)()"', "{ a.b.c = [1] }",
]  # fmt: skip
_KEYS = ["problem", '"problem.d"', "problem.d", "d", "k", '""', '"a b"', "seed", "'\\n'",
         "zip", "axes", "derived", "run", '"clean.bias.stop"', "clean", "base"]  # fmt: skip


def _mutant(chance: random.Random) -> str:
    # Four points instead of twelve: most of the time goes into checking them.
    lines: list[str] = list(GOOD.replace("points = 3", "points = 1").splitlines())
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(lines))
        line = lines[at]
        match chance.randrange(6):
            case 0:
                lines[at] = line.partition("=")[0] + "= " + chance.choice(_VALUES)
            case 1:
                lines.insert(at, f"{chance.choice(_KEYS)} = {chance.choice(_VALUES)}")
            case 2:
                lines[at] = chance.choice(_KEYS) + " =" + line.partition("=")[2]
            case 3:
                cut = chance.randrange(len(line) + 1)
                lines[at] = line[:cut] + chance.choice('"[]{}=.#\0\t\\é') + line[cut + 1 :]
            case 4:
                lines[at] = line[: chance.randrange(len(line) + 1)]
            case _:
                lines.insert(at, lines.pop(chance.randrange(len(lines))))
    return "\n".join(lines)


def test_fuzz(tmp_path):
    """Whatever a file holds, it is either a sweep or one line: no traceback, no hang."""
    chance, refused = random.Random(5), 0
    for _ in range(400):
        text = _mutant(chance)
        path = written(tmp_path, text)
        try:
            sweep = load(path)
            if refused % 20 == 0:  # what holds together as settings may still contradict itself
                make_plan(sweep, 2**32)
        except ConfigError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 3000, text
    assert 200 < refused < 400


def test_fuzzed_files_leave_the_command_line_with_code_2(tmp_path, featpur):
    chance, refused = random.Random(6), 0
    for _ in range(20):
        path = written(tmp_path, _mutant(chance))
        try:
            sweep_file.load(path)
            continue
        except ConfigError:
            refused += 1
        code, out, err = featpur("sweep", path, "--out", tmp_path / "out")
        assert code == 2 and not out
        assert err.count("\n") == 1 and err.startswith("featpur: ")
        assert not (tmp_path / "out").exists()
    assert refused >= 5
