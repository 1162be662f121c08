"""What the settings of a run stand for: problem, phases, network (docs/theory.md §1-§3)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from featpur_sim._ground.expected import expect
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.gradient import Attack
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.data.laws import GaussianTwin, HiddenLaw, Levels, TwoLevel, UniformMagnitude
from featpur_sim.data.sparse_coding import DictionaryName, LabelVector, SparseCoding
from featpur_sim.models.symmetric_relu import SymmetricReLU, initialise
from featpur_sim.runs.config import (
    AdversarialConfig,
    BiasConfig,
    FrozenConfig,
    LevelsProblem,
    LinearRampConfig,
    OwnLawProblem,
    PerNeuronConfig,
    PhaseConfig,
    RunConfig,
    TabulatedConfig,
)
from featpur_sim.runs.own import two_phases
from featpur_sim.training.bias import BiasSchedule, Frozen, LinearRamp, PerNeuron, Tabulated
from featpur_sim.training.loop import replicate
from featpur_sim.training.phase import Phase


@steady
def make_problem(config: RunConfig, seed: int) -> SparseCoding:
    """The data distribution of one seed of a run.

    w* and a random M depend on ``config.seed`` alone where the seeds share them, and on
    (config.seed, seed) elsewhere; never on how many seeds there are.

    Args:
        config: of the run.
        seed: counted from 1, as in its results.
    """
    if config.parts.problem is not None:
        return _own_problem(config, seed)
    p = config.problem
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    return SparseCoding(
        p.d,
        p.k,
        p.sigma_x,
        D=p.features,
        law=_make_law(config),
        wstar=_make_wstar(config),
        dictionary=_make_dictionary(config),
        key=key if config.draw == "shared" else jax.random.fold_in(key, seed),
    )


def _own_problem(config: RunConfig, seed: int) -> SparseCoding:
    assert config.parts.problem is not None
    problem, p = config.parts.problem(config, seed), config.problem
    expect("problem", problem, SparseCoding, "a SparseCoding, or a function that gives one")
    wanted = {"d": p.d, "D": p.features or p.d, "k": p.k, "sigma_x": p.sigma_x}
    for name, value in wanted.items():
        found = float(getattr(problem, name))
        if abs(found - value) > 1e-6 * abs(value):
            raise ValueError(
                f"the problem of seed {seed} has {name} = {found:g} and the settings have "
                f"{value:g}: all seeds of a run share it. Read it from the settings that the "
                "function is given."
            )
    return problem


def _make_wstar(config: RunConfig) -> LabelVector:
    p, file = config.problem, config.parts.wstar
    if (p.wstar == "uniform") != (p.wstar_range is not None):
        raise ValueError("problem.wstar_range = [a, b] goes with problem.wstar = 'uniform'.")
    sources = [values for values in (p.wstar_values, file) if values is not None]
    if (p.wstar == "own") != (len(sources) == 1):
        raise ValueError(
            "problem.wstar = 'own' goes with one of problem.wstar_values = [...] and "
            "problem.wstar_file = 'w.npy'."
        )
    return np.asarray(sources[0], np.float32) if sources else p.wstar_range or "signs"


def _make_dictionary(config: RunConfig) -> DictionaryName | np.ndarray:
    p, file = config.problem, config.parts.dictionary
    name, sources = p.dictionary, [rows for rows in (p.dictionary_values, file) if rows is not None]
    if (name == "own") != (len(sources) == 1):
        raise ValueError(
            "problem.dictionary = 'own' goes with one of problem.dictionary_values = [[...], ...], "
            "its rows, and problem.dictionary_file = 'M.npy'."
        )
    if name != "own":
        return name
    if len({len(row) for row in sources[0]}) != 1:
        raise ValueError("problem.dictionary_values must have rows of one length.")
    return np.asarray(sources[0], np.float32)


@steady
def make_problems(config: RunConfig) -> SparseCoding:
    """`make_problem` of every seed of a run, with a leading axis over the seeds."""
    if config.draw == "shared":
        return replicate(make_problem(config, 1), config.seeds)
    each = [make_problem(config, seed) for seed in range(1, config.seeds + 1)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


@steady
def simulated(config: RunConfig, given: SparseCoding) -> SparseCoding:
    """A problem, or several, in the coordinates of the simulation.

    ℓ2 runs of plain gradient descent with a unitary M are simulated in the gauge M = I: exact, and
    N·d cheaper (§1).
    """
    return given.gauge() if config.in_gauge else given


def _make_law(config: RunConfig) -> HiddenLaw:
    p = config.problem
    if isinstance(p, LevelsProblem):
        return Levels(p.levels, p.rates)
    if isinstance(p, OwnLawProblem):
        return _own_law(config, p)
    laws = {
        "two-level": TwoLevel,
        "uniform-magnitude": UniformMagnitude,
        "gaussian-twin": GaussianTwin,
    }
    return laws[p.law](p.p_one)


def _own_law(config: RunConfig, p: OwnLawProblem) -> HiddenLaw:
    assert config.parts.law is not None
    try:
        law = config.parts.law(**p.parameters)
    except TypeError as error:  # a parameter is missing, or one too many
        raise ValueError(f"problem.parameters = {p.parameters}: {error}.") from None
    expect("problem.law", law, HiddenLaw, "a HiddenLaw's class")
    return law


# The words of a settings file → the names in results.
_TRAINING_ATTACKS: dict[str, AttackName] = {
    "fgm": "FGM",
    "pgd": "PGD",
    "random-noise": "random noise",
}


def training_attack(a: AdversarialConfig) -> AttackKind:
    """What the adversarial phase trains against, but for its radius.

    Raises:
        ValueError: it is code.
    """
    if a.attack == "own":
        raise ValueError("adversarial.attack = 'own' goes with own.phases, which say what it is.")
    return AttackKind(_TRAINING_ATTACKS[a.attack], a.norm, steps=a.pgd_steps)


@steady
def make_phases(config: RunConfig) -> list[Phase]:
    """The clean and the adversarial phase of a run."""
    if config.parts.phases is not None:
        return two_phases(config.parts.phases(config))
    a = config.adversarial
    attack = training_attack(a)(a.radius)
    return [
        _make_phase("clean", config.clean, _make_bias(config.clean.bias), None),
        _make_phase("adversarial", a, Frozen(), attack, a.rank),
    ]


def _make_phase(
    name: str,
    c: PhaseConfig,
    bias: BiasSchedule,
    attack: Attack | None,
    rank: int | None = None,
) -> Phase:
    return Phase(
        name,
        c.steps,
        learning_rate=c.learning_rate,
        weight_decay=c.weight_decay,
        batch=c.batch,
        microbatch=c.microbatch,
        dataset_size=c.dataset_size,
        optimizer=_optimizer(name, c),
        bias=bias,
        attack=attack,
        rank=rank,
    )


def _optimizer(name: str, c: PhaseConfig):
    if c.optimizer == "own":
        raise ValueError(f"{name}.optimizer = 'own' goes with own.phases, which say what it is.")
    return getattr(optax, c.optimizer)


def _make_bias(b: BiasConfig) -> BiasSchedule:
    match b:
        case LinearRampConfig():
            return LinearRamp(b.stop, b.start, b.fraction)
        case PerNeuronConfig():
            return PerNeuron(
                b.stop, b.start, b.begin, b.end, ceiling=b.ceiling, monotone=b.monotone
            )
        case TabulatedConfig():
            return Tabulated(b.fractions, b.values)
        case FrozenConfig():
            return Frozen()


def initial_bias(b: BiasConfig) -> float:
    """The threshold before step 0; a threshold per neuron starts at 0 (``start`` is a factor)."""
    return b.start if isinstance(b, LinearRampConfig | FrozenConfig) else 0.0


@steady
def make_network(config: RunConfig, key: PRNGKey) -> SymmetricReLU:
    """The network of a run before step 0."""
    if config.parts.network is not None:
        return _own_network(config, key)
    n, bias = config.network, config.clean.bias
    return initialise(
        config.problem.d,
        n.neurons,
        sigma_0=n.sigma_0,
        bias=initial_bias(bias),
        per_neuron_bias=bias.schedule == "per-neuron",
        sigma_rho=n.sigma_rho,
        smoothing=n.smoothing,
        key=key,
    )


def _own_network(config: RunConfig, key: PRNGKey) -> SymmetricReLU:
    assert config.parts.network is not None
    network = config.parts.network(config, key)
    wanted = "a SymmetricReLU, or a function that gives one"
    expect("network", network, SymmetricReLU, wanted)
    if type(network) is not SymmetricReLU:
        raise ValueError(
            f"network is a {type(network).__name__}: a run decomposes, certifies and saves a "
            "SymmetricReLU, not a subclass. fp.train takes any."
        )
    if network.weights.shape != (shape := (config.network.neurons, config.problem.d)):
        raise ValueError(
            f"network has weights of shape {network.weights.shape}, the settings ask for {shape}: "
            "network.neurons by problem.d."
        )
    return network
