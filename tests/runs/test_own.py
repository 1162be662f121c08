"""Code and arrays in place of settings: from Python, from files on permission, and read back."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tomli_w
import xarray as xr
from quick_survey import quick_survey

import featpur_sim as fp
from featpur_sim._ground.disk import ResultError
from featpur_sim.claims import AtLeast, Claim, Measured, over_seeds
from featpur_sim.runs import build
from featpur_sim.runs.config import ConfigError, dump, parse
from featpur_sim.runs.own import resolve, source
from featpur_sim.runs.presets import dense_regime
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.run import run_sweep

FEW = {"samples": 100, "radii": [0.0, 1.0], "certify_points": 30}
LAW = """
import jax.numpy as jnp
import featpur_sim as fp

print("imported")

class Heavy(fp.data.HiddenLaw):
    a: float = 2.0

    def magnitude(self, u, k, D):
        return jnp.where(u < k / D, jnp.maximum(1 / jnp.sqrt(k), 1 - (u * D / k) ** self.a), 0.0)

    def second_moment(self, k, D):
        return jnp.float32(2 / D)

    def nonzero_rate(self, k, D):
        return jnp.float32(k / D)
"""


def largest(moment):
    return {"largest": jnp.max(moment.network.weights)}


def final_weight(result: xr.Dataset) -> Measured:
    return over_seeds(result["along_largest"].isel(record=-1).values)


GROWN = Claim(
    "M1",
    AtLeast(0.1, "the weight"),
    final_weight,
    "large",
    "[D]",
    "the largest weight grows",
)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a module of laws, of another name for every test."""
    name = f"lab_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(LAW, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def of_problem(tiny, **problem):
    return parse(tiny(problem=problem))


# --- from files ---------------------------------------------------------------------------------


def test_code_runs_on_permission_alone(tiny, lab, capsys):
    config = of_problem(tiny, law=f"{lab}:Heavy", parameters={"a": 3.0})
    assert config.problem.law == "own" and config.problem.of == f"{lab}:Heavy"
    with pytest.raises(ConfigError, match=r"problem\.law = .* is code.*--allow-import"):
        resolve(config)
    with pytest.raises(ConfigError, match="has not been read"):
        build.make_problem(config, 1)
    assert "imported" not in capsys.readouterr().out
    law = build.make_problem(resolve(config, allow_import=True), 1).law
    assert type(law).__name__ == "Heavy" and float(vars(law)["a"]) == 3.0
    assert capsys.readouterr().out == "imported\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{lab}:Absent", "cannot be imported: .*no attribute 'Absent'"),
        ("nowhere_at_all:Heavy", "cannot be imported: No module named"),
        ("{lab}:jnp", "must be a hidden law's class, got"),
        ("{lab}:Heavy", r"problem\.parameters = \{'b': 1\}: .*'b'"),
    ],
)
def test_code_that_cannot_be_used_is_said_in_one_line(tiny, lab, name, said):
    config = of_problem(tiny, law=name.format(lab=lab), parameters={"b": 1})
    with pytest.raises(ValueError, match=said) as refused:
        build.make_problem(resolve(config, allow_import=True), 1)
    assert "\n" not in str(refused.value)


def test_arrays_come_from_files_beside_the_settings(tiny, tmp_path):
    wstar, M = np.linspace(0.5, 1.5, 16), np.roll(np.eye(16), 1, 0)
    np.save(tmp_path / "w.npy", wstar)
    np.save(tmp_path / "M.npy", M)
    config = of_problem(
        tiny, wstar="own", wstar_file="w.npy", dictionary="own", dictionary_file="M.npy"
    )
    found = resolve(config, folder=tmp_path)
    assert found.draw == "shared" and not found.in_gauge
    assert found.problem.wstar_file == str(tmp_path / "w.npy")
    problem = build.make_problem(found, 1)
    np.testing.assert_array_equal(problem.wstar, wstar.astype(np.float32))
    np.testing.assert_array_equal(problem.M, M)
    assert resolve(parse(tiny()), folder=tmp_path) == parse(tiny())


def test_arrays_may_stand_in_the_file_itself(tiny):
    M = np.roll(np.eye(16), 1, 0)
    config = of_problem(
        tiny,
        wstar="own", wstar_values=[1.0, -2.0] * 8,
        dictionary="own", dictionary_values=M.tolist(),
    )  # fmt: skip
    problem = build.make_problem(config, 1)
    np.testing.assert_array_equal(problem.wstar, [1.0, -2.0] * 8)
    np.testing.assert_array_equal(problem.M, M)
    assert not config.in_gauge


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"wstar": "own"}, "goes with one of problem.wstar_values"),
        ({"wstar_values": [1.0] * 16}, "goes with one of problem.wstar_values"),
        ({"dictionary": "own"}, "goes with one of problem.dictionary_values"),
        ({"dictionary_values": [[1.0]]}, "goes with one of problem.dictionary_values"),
        ({"dictionary": "own", "dictionary_values": [[1.0], [1.0, 0.0]]}, "rows of one length"),
        ({"dictionary": "own", "dictionary_values": [[1.0, 0.0]] * 3}, "D ≥ d columns"),
        ({"wstar": "own", "wstar_values": [1.0] * 3}, "wstar must be 16"),
    ],
)
def test_arrays_and_their_words_go_together(tiny, problem, said):
    with pytest.raises(ValueError, match=said):
        build.make_problem(of_problem(tiny, **problem), 1)


@pytest.mark.parametrize("content", [b"no array", None])
def test_files_that_hold_no_array_are_refused(tiny, tmp_path, content):
    path = tmp_path / "w.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"problem\.wstar_file = 'w.npy' cannot be read"):
        resolve(of_problem(tiny, wstar="own", wstar_file="w.npy"), folder=tmp_path)


def test_a_pickle_in_a_file_is_not_loaded(tiny, tmp_path):
    np.save(tmp_path / "w.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve(of_problem(tiny, wstar="own", wstar_file="w.npy"), folder=tmp_path)


# --- from Python --------------------------------------------------------------------------------


def test_numbers_of_what_is_given_are_written_into_the_settings(tiny):
    law = fp.data.UniformMagnitude(0.5)
    problem = fp.SparseCoding(d=20, k=4, sigma_x=0.2, law=law, wstar=(0.5, 1.0))
    attack = fp.PGD(0.25, "linf", steps=3)
    phases = [
        fp.CleanPhase(30, batch=16, loss=fp.models.hinge_loss),
        fp.AdversarialPhase(attack, 20, batch=8, learning_rate=0.1),
    ]
    config = resolve(parse(tiny()), given={"problem": problem, "phases": phases})
    p, a = config.problem, config.adversarial
    assert (p.d, p.k, p.sigma_x, p.law, p.p_one) == (20, 4, 0.2, "uniform-magnitude", 0.5)
    assert (p.wstar, p.dictionary, config.draw) == ("own", "identity", "shared")
    assert (config.clean.steps, config.clean.batch) == (30, 16)
    assert (a.steps, a.batch, a.learning_rate, a.radius, a.norm) == (20, 8, 0.1, 0.25, "linf")
    assert (a.attack, a.pgd_steps, a.optimizer) == ("pgd", 3, "sgd")
    assert config.own is not None and config.own.shown["problem"] == repr(problem)
    assert not config.in_gauge
    assert build.make_phases(config) == phases
    assert eqx.tree_equal(build.make_problem(config, 2), problem)
    with pytest.raises(ConfigError, match=r"own\.problem was given in Python: SparseCoding"):
        resolve(parse(config.model_dump(exclude_none=True)))


def test_what_no_file_has_a_word_for_is_said_to_be_own(tiny):
    attack = fp.attacks.FunctionAttack(lambda model, batch, key: 0 * batch.x, 0.1)
    momentum = fp.CleanPhase(3, optimizer=lambda rate: optax.sgd(rate, momentum=0.9))
    phases = [momentum, fp.AdversarialPhase(attack, 3)]
    found = resolve(parse(tiny()), given={"phases": phases})
    assert (found.adversarial.attack, found.clean.optimizer) == ("own", "own")
    for section in ("clean", "adversarial"):
        word = {"optimizer": "own"} if section == "clean" else {"attack": "own"}
        with pytest.raises(ValueError, match="= 'own' goes with own.phases"):
            build.make_phases(parse(tiny(**{section: word})))


def test_claims_change_no_number(tiny):
    """A run whose claims alone are code is the run that it was, in the same coordinates."""
    haar = parse(tiny(problem={"dictionary": "haar"}))
    judged = resolve(haar, given={"claims": [GROWN]})
    assert judged.identity() == haar.identity() and haar.in_gauge and judged.in_gauge
    watched = resolve(haar, given={"observe": largest})
    assert watched.identity() != haar.identity() and not watched.in_gauge


def test_a_function_makes_the_problem_of_every_seed(tiny):
    def drawn(settings, seed):
        p = settings.problem
        return fp.SparseCoding(p.d, p.k, p.sigma_x, key=jax.random.key(seed))

    config = resolve(parse(tiny()), given={"problem": drawn})
    first, second = build.make_problems(config).wstar
    assert config.draw == "per-seed" and not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"problem": 3}, "problem must be a SparseCoding, or a function"),
        ({"problem": lambda settings, seed: 3}, "problem must be a SparseCoding, or a function"),
        ({"phases": [fp.CleanPhase(3)]}, r"phases must be one 'clean' and one 'adv.*\['clean'\]"),
        ({"phases": "clean"}, "phases must be a list of two phases"),
        ({"network": lambda settings, key: None}, "network must be a SymmetricReLU"),
        ({"network": fp.SymmetricReLU(np.eye(3), 0.1)}, r"\(3, 3\), the settings ask for \(32, 16"),
        ({"observe": 3}, "observe must be a function of one Moment, got 3"),
        ({"claims": GROWN}, "claims must be a list of claims"),
        (
            {"problem": lambda s, seed: fp.SparseCoding(15 + seed, 3, 0.3)},
            "the problem of seed 2 has d = 17 and the settings have 16",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tiny, unchecked, given, said):
    with pytest.raises(ValueError, match=said):
        config = resolve(parse(tiny()), given=given)
        build.make_network(config, jax.random.key(0))
        build.make_problem(config, 2)


def test_a_source_is_of_code_and_values():
    def law(sharpness, *, doubled=False):
        class Own(fp.data.TwoLevel):
            def second_moment(self, k, D):
                return super().second_moment(k, D)

        class Other(fp.data.TwoLevel):
            def second_moment(self, k, D):
                return 2 * super().second_moment(k, D)

        Other.__name__, Other.__qualname__ = Own.__name__, Own.__qualname__
        return (Other if doubled else Own)(sharpness)

    same = source(law(2.0))
    assert source(law(2.0)) == same
    assert source(law(3.0)) != same
    assert source(law(2.0, doubled=True)) != same


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (Claim("C5", GROWN.rule, GROWN.measure, "", "", ""), r"claims\[0\] has the id 'C5'"),
        (3, r"claims\[0\] must be a claim"),
    ],
)
def test_own_claims_are_checked_before_the_run(tiny, unchecked, claim, said, monkeypatch):
    monkeypatch.setattr("featpur_sim.report.one_run.run_experiment", None)
    with pytest.raises(ConfigError, match=said):
        fp.run(tiny(), claims=[claim], quiet=True)


@pytest.fixture(scope="module")
def ran(tiny, tmp_path_factory):
    """A run of all parts, its folder, and what was given."""
    folder = tmp_path_factory.mktemp("own") / "run"
    wstar = np.linspace(0.5, 1.5, 16)
    given = {
        "problem": fp.SparseCoding(16, 3, 0.2, wstar=wstar),
        "phases": [
            fp.CleanPhase(40, batch=32, loss=fp.models.hinge_loss),
            fp.AdversarialPhase(fp.FGM(0.1), 30, batch=32),
        ],
        "network": lambda settings, key: fp.initialise(16, 32, bias=0.01, key=key),
        "observe": largest,
        "claims": [GROWN],
    }
    return fp.run(tiny(evaluation=FEW), folder, quiet=True, **given), folder, given


def test_a_run_of_own_parts_is_measured_judged_and_shown(ran):
    run, folder, _ = ran
    assert run.data.along_largest.dims == ("record", "seed")
    last = run.scorecard().iloc[-1]
    final = run.networks["adversarial"].weights.max(axis=(1, 2))
    assert last.id == "M1" and last.measured == pytest.approx(float(final.mean()))
    assert (run.scorecard().held_together == run.scorecard().held_together[0]).all()
    assert "the largest weight grows" in (folder / "report.html").read_text(encoding="utf-8")
    assert repr(run).startswith("Run(tiny, d=16, k=3, m=32, τ=0.1, 2 seeds, ")


def test_a_run_of_own_parts_is_read_back_with_them_alone(ran):
    run, folder, given = ran
    again = fp.load(folder, problem=given["problem"])
    assert eqx.tree_equal(again.networks, run.networks)
    assert float(again.networks["init"].bias[0]) == pytest.approx(0.01)
    assert again.scorecard().equals(run.scorecard())
    with pytest.raises(ConfigError, match=r"given in Python.*fp\.load\(folder, problem=…\)"):
        fp.load(folder)
    with pytest.raises(ConfigError, match="problem is not what the run had"):
        fp.load(folder, problem=fp.SparseCoding(16, 3, 0.2))
    with pytest.raises(ConfigError, match=r"fp\.write_report\(folder, claims=…\)"):
        fp.write_report(folder)
    assert fp.write_report(folder, claims=given["claims"])[-1]["id"] == "M1"


def test_the_same_call_reads_back_and_another_is_refused(ran, tiny):
    run, folder, given = ran
    same = fp.run(tiny(evaluation=FEW), folder, quiet=True, **given)
    assert same.data.attrs["wall_seconds"] == run.data.attrs["wall_seconds"]
    twice = GROWN.rule._replace(threshold=0.2)
    more = [GROWN, dataclasses.replace(GROWN, id="M2", rule=twice)]
    judged = fp.run(tiny(evaluation=FEW), folder, quiet=True, **(given | {"claims": more}))
    assert judged.scorecard().id.tolist()[-2:] == ["M1", "M2"]
    other = given | {"observe": lambda moment: {"largest": jnp.min(moment.network.weights)}}
    with pytest.raises(ValueError, match="holds another run .*own.observe.*: undo the change"):
        fp.run(tiny(evaluation=FEW), folder, quiet=True, **other)


# --- in sweeps and commands ---------------------------------------------------------------------


def test_every_point_of_a_sweep_has_its_own_parts(tmp_path):
    def drawn(settings, seed):
        k = settings.problem.k
        return fp.SparseCoding(16, k, 0.3, wstar=np.full(16, k), key=jax.random.key(seed))

    few = {"steps": 5, "batch": 8}
    settings = {
        "preset": "dense-regime",
        "run": {"problem": {"d": 16}, "records": 2, "clean": few, "adversarial": few},
        "axes": {"k": [2, 3]},
    }
    sweep = parse_sweep(settings, given={"problem": drawn})
    assert [point.config.problem.k for point in sweep.points] == [2, 3]
    seen = []

    def survey(problem, *others, memory=0):
        seen.append(problem.wstar)
        return quick_survey(problem, *others)

    found = run_sweep(sweep, tmp_path / "out", survey=survey)
    assert not (found.result.status == "failed").any()
    np.testing.assert_array_equal(np.concatenate(seen)[:, 0], [2, 2, 2, 3, 3, 3])

    def other(settings, seed):
        return fp.SparseCoding(16, settings.problem.k, 0.3)

    with pytest.raises(ResultError, match="holds another sweep"):
        run_sweep(parse_sweep(settings, given={"problem": other}), tmp_path / "out", resume=True)


def test_a_sweep_refuses_parts_that_it_would_leave_out(tiny, lab):
    settings = {"preset": "dense-regime", "run": {"own": {"observe": f"{lab}:fp"}}}
    with pytest.raises(ConfigError, match=r"own\.observe is of single runs"):
        parse_sweep(settings, given={"observe": largest})


def test_commands_import_when_they_are_told_to(tiny, lab, featpur, tmp_path, monkeypatch):
    monkeypatch.setattr("featpur_sim.report.reproduce.reproduce", lambda *a, **b: [])
    settings = tiny(problem={"law": f"{lab}:Heavy"})
    (tmp_path / "run.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    command = ("run", tmp_path / "run.toml", "--out", tmp_path / "out")
    code, _, said = featpur(*command)
    assert code == 2 and "allow it with --allow-import" in said
    code, _, said = featpur(*command, "--allow-import")
    assert code == 5 and "no seed finished" in said  # the run itself is left out here


def test_settings_alone_are_as_before():
    config = dense_regime(d=32)
    assert resolve(config) is config
    assert "own" not in dump(config)
