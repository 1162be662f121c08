"""Settings of a run: a TOML file ⟷ typed, checked values (docs/theory.md §1-§3).

Every setting is checked before anything is computed; a wrong one gives a single
`ConfigError` that names it, its value, the rule and the fix.
"""

import inspect
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import pydantic
import tomli_w
from pydantic import BeforeValidator, Discriminator, Field

from featpur_sim._ground.checks import ConfigError as ConfigError
from featpur_sim._ground.rows import Settings
from featpur_sim.data.laws import TwoLevel
from featpur_sim.models.symmetric_relu import initialise
from featpur_sim.runs.parts import GIVEN, Parts
from featpur_sim.runs.sections import Section, default_kind, explain, known
from featpur_sim.training.bias import LinearRamp, PerNeuron
from featpur_sim.training.phase import CleanPhase


def _default(constructor: Callable[..., Any], name: str) -> Any:
    """What a constructor takes where nothing is given, so that each default stands once."""
    return inspect.signature(constructor).parameters[name].default


Fraction = Annotated[float, Field(gt=0, le=1)]
# Steps, rows and sizes are counted in int32 on the device.
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
# Numbers reach the device as float32.
NonNegative = Annotated[float, Field(ge=0, le=1e30)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
# Code that a file names, "mylab.laws:HeavyTail", or that was given in Python.
Code = Annotated[str, Field(pattern=rf"^([A-Za-z_][\w.]*:[A-Za-z_]\w*|{GIVEN}.+)$")]
# One w* and M for all seeds of a run, or new ones for each.
Draw = Literal["shared", "per-seed"]


# Said to pyright, which lets kinds narrow the fields of a frozen class only.
class _Problem(Section, frozen=True):  # pyright: ignore[reportGeneralTypeIssues]
    """Data: x = Mz + ξ, y = sign⟨w*, z⟩ (§1). Its kinds differ in the law of z."""

    tag: ClassVar[str] = "law"

    d: Annotated[Count, Field(ge=2)]
    k: Annotated[float, Field(ge=1)]
    sigma_x: NonNegative = 0.3
    features: Annotated[Count, Field(ge=2)] | None = None
    law: Literal["two-level", "uniform-magnitude", "levels", "gaussian-twin", "own"] = "two-level"
    p_one: NonNegative = _default(TwoLevel, "p_one")
    levels: list[Fraction] | None
    rates: list[NonNegative] | None
    of: Code | None
    parameters: dict[str, Any] | None
    wstar: Literal["signs", "uniform", "own"] = "signs"
    # TOML has lists but no tuples.
    wstar_range: Annotated[tuple[Positive, Positive], Field(strict=False)] | None = None
    wstar_values: list[float] | None = None
    wstar_file: str | None = None
    dictionary: Literal["identity", "haar", "hadamard", "dct", "incoherent", "own"] = "identity"
    dictionary_values: list[list[float]] | None = None
    dictionary_file: str | None = None
    draw: Draw | None = None


class NamedLawProblem(_Problem, frozen=True):
    """The law is known by its name."""

    law: Literal["two-level", "uniform-magnitude", "gaussian-twin"] = "two-level"
    levels: None = None
    rates: None = None
    of: None = None
    parameters: None = None


class LevelsProblem(_Problem, frozen=True):
    """The law is given, level by level."""

    law: Literal["levels"] = "levels"
    levels: list[Fraction]
    rates: list[NonNegative]
    of: None = None
    parameters: None = None


class OwnLawProblem(_Problem, frozen=True):
    """The law is code: ``law = "mylab.laws:HeavyTail"`` is short for ``"own"`` with that ``of``."""

    law: Literal["own"] = "own"
    levels: None = None
    rates: None = None
    of: Code
    parameters: dict[str, Any] = Field(default={})


def _spelt_out(section: Any) -> Any:
    if isinstance(section, dict) and ":" in str(section.get("law", "")):
        return section | {"law": "own", "of": section["law"]}
    return section


ProblemConfig = NamedLawProblem | LevelsProblem | OwnLawProblem


class NetworkConfig(Section):
    """Network and its start (§2)."""

    neurons: Count
    sigma_0: Positive = _default(initialise, "sigma_0")
    smoothing: Literal["none", "sampled", "closed"] = "none"
    sigma_rho: NonNegative = _default(initialise, "sigma_rho")


class _Schedule(Section):
    """A schedule of the threshold. Its settings are written as they were given."""

    tag: ClassVar[str] = "schedule"

    @pydantic.model_serializer(mode="wrap")
    def _as_given(self, handler: Callable[[Any], Settings], info: Any) -> Settings:
        given = {
            name: value
            for name, value in handler(self).items()
            if name == self.tag or name in self.model_fields_set
        }
        # What identifies a run, its checkpoints and a sweep hashes every setting of every schedule.
        return given if info.exclude_none else dict.fromkeys(known(get_args(BiasConfig))) | given


class LinearRampConfig(_Schedule):
    """One threshold for all neurons, ramped (§3)."""

    schedule: Literal["linear-ramp"] = "linear-ramp"
    start: NonNegative = _default(LinearRamp, "start")
    stop: NonNegative
    fraction: Fraction = _default(LinearRamp, "fraction")


class PerNeuronConfig(_Schedule):
    """A threshold per neuron, in proportion to its largest coefficient (§7.1)."""

    schedule: Literal["per-neuron"] = "per-neuron"
    start: Positive = _default(PerNeuron, "start")
    stop: Positive
    begin: NonNegative = _default(PerNeuron, "begin")
    end: Positive = _default(PerNeuron, "end")
    ceiling: Positive = _default(PerNeuron, "ceiling")
    monotone: bool = _default(PerNeuron, "monotone")


class TabulatedConfig(_Schedule):
    """Thresholds at given fractions of the phase, linear between."""

    schedule: Literal["tabulated"] = "tabulated"
    fractions: list[float]
    values: list[NonNegative]


class FrozenConfig(_Schedule):
    """The threshold stays where it starts."""

    schedule: Literal["frozen"] = "frozen"
    start: NonNegative = 0.0


BiasConfig = LinearRampConfig | PerNeuronConfig | TabulatedConfig | FrozenConfig


class PhaseConfig(Section):
    """One phase of gradient descent (§3)."""

    steps: Count
    learning_rate: Positive = _default(CleanPhase, "learning_rate")
    weight_decay: NonNegative = _default(CleanPhase, "weight_decay")
    batch: Count = _default(CleanPhase, "batch")
    microbatch: Count | None = None
    dataset_size: Count | None = None
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "lion", "own"] = "sgd"

    @pydantic.model_validator(mode="after")
    def _microbatch_divides(self):
        if self.microbatch is not None and self.batch % self.microbatch:
            raise ValueError(f"microbatch = {self.microbatch} must divide batch = {self.batch}")
        return self


class CleanConfig(PhaseConfig):
    """The clean phase."""

    bias: Annotated[BiasConfig, Discriminator("schedule"), default_kind(LinearRampConfig)]


class AdversarialConfig(PhaseConfig):
    """The adversarial phase."""

    attack: Literal["fgm", "pgd", "random-noise", "own"] = "fgm"
    norm: Literal["l2", "linf"] = "l2"
    radius: Positive
    pgd_steps: Count = 10
    rank: Count | None = None


class EvaluationConfig(Section):
    """How the networks are attacked; radii are multiples of the training radius."""

    samples: Annotated[Count, Field(ge=100)] = 1000
    radii: list[NonNegative] = Field(default=[0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0])
    pgd_steps: Count = 40
    pgd_restarts: Count = 2
    certify_points: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1000

    @pydantic.field_validator("radii")
    @classmethod
    def _rising_and_through_one(cls, radii):
        if sorted(set(radii)) != list(radii) or 0.0 not in radii or 1.0 not in radii:
            raise ValueError("radii must rise strictly and hold 0 and 1 (the training radius)")
        return radii


class OwnConfig(Section):
    """Code in place of settings; see `featpur_sim.runs.own`."""

    problem: Code | None = None
    network: Code | None = None
    phases: Code | None = None
    observe: Code | None = None
    claims: Code | None = None
    # Part → hash of its source and values, and how it shows itself; written down for a run.
    source: dict[str, str] = Field(default={})
    shown: dict[str, str] = Field(default={})


class RunConfig(Section):
    """Everything that one run depends on."""

    name: str = "run"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 5
    records: Annotated[int, Field(ge=1, le=10_000)] = 30
    problem: Annotated[
        ProblemConfig,
        Discriminator("law"),
        default_kind(NamedLawProblem),
        BeforeValidator(_spelt_out),
    ]
    network: NetworkConfig
    clean: CleanConfig
    adversarial: AdversarialConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    own: OwnConfig | None = None

    # What the names of code and files stand for, once they are resolved.
    _parts: Parts | None = pydantic.PrivateAttr(default=None)

    @pydantic.model_validator(mode="after")
    def _sparsity_fits(self):
        if self.problem.k > self.problem.d:
            raise ValueError(
                f"problem.k = {self.problem.k:g} exceeds problem.d = {self.problem.d}: k is the "
                "expected number of active features. Lower k or raise d"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _rank_fits(self):
        rank, most = self.adversarial.rank, min(self.problem.d, self.network.neurons)
        if rank is not None and rank > most:
            raise ValueError(
                f"adversarial.rank = {rank} exceeds {most}, the smaller of problem.d and "
                "network.neurons: lower it, or leave it out to train all of W"
            )
        return self

    @property
    def in_gauge(self) -> bool:
        """Whether M is unitary and all of this run ℓ2, its descent too: M is rotated away (§1)."""
        # Adam and its like scale each coordinate by itself: a rotation changes what they do. Code
        # that takes part in training may do anything.
        own = self.own or OwnConfig()
        code = any((own.problem, own.network, own.phases, own.observe))
        plain = self.clean.optimizer == self.adversarial.optimizer == "sgd" and not code
        unitary = self.problem.dictionary not in ("incoherent", "own")
        return plain and unitary and self.adversarial.norm == "l2"

    @property
    def draw_matters(self) -> bool:
        """Whether a seed's results depend on the w* and M that were drawn (§1)."""
        p = self.problem
        if p.wstar == "own":
            return not (self.in_gauge or p.dictionary in ("identity", "own"))
        return p.wstar != "signs" or not (self.in_gauge or p.dictionary == "identity")

    @property
    def draw(self) -> Draw:
        """Whether the seeds share w* and M; if nothing is set, where the draw is immaterial."""
        return self.problem.draw or ("per-seed" if self.draw_matters else "shared")

    def identity(self, *without: str) -> Settings:
        """What a run's numbers depend on: its settings, but for the claims that judge them.

        Args:
            without: sections to leave out.
        """
        own = self.own and self.own.model_copy(update={"claims": None})
        own = None if own == OwnConfig() else own
        return self.model_copy(update={"own": own}).model_dump(mode="json", exclude=set(without))

    @property
    def parts(self) -> Parts:
        """What code and files give; nothing of it where the settings say all.

        Raises:
            ConfigError: something is named that `featpur_sim.runs.own.resolve` has not seen.
        """
        p = self.problem
        names = {"problem.law": p.of, "problem.wstar_file": p.wstar_file}
        names |= {"problem.dictionary_file": p.dictionary_file}
        if self.own:
            each = ("problem", "network", "phases", "observe", "claims")
            names |= {f"own.{name}": getattr(self.own, name) for name in each}
        named = {name: value for name, value in names.items() if value is not None}
        if self._parts is None and named:
            name, value = next(iter(named.items()))
            raise ConfigError(
                f"{name} = {value!r} has not been read: pass the settings through "
                "featpur_sim.runs.own.resolve, as fp.run and 'featpur run' do."
            )
        return self._parts or Parts()


def parse(settings: Settings) -> RunConfig:
    """A checked configuration from a nested dictionary.

    Raises:
        ConfigError: one message that lists every wrong setting.
    """
    try:
        return RunConfig.model_validate(settings)
    except pydantic.ValidationError as error:
        lines = [explain(item, RunConfig) for item in error.errors()]
        raise ConfigError(" ".join(lines)) from None


def parse_text(text: str) -> RunConfig:
    """The settings that a result holds as text.

    Raises:
        ConfigError: as for `parse`.
    """
    return parse(tomllib.loads(text))


def load(path: str | Path) -> RunConfig:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds a wrong setting.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")  # some editors begin with a BOM
        settings = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: 'featpur init {path}' writes a starter file."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # over-long integers, over-deep nesting too
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    try:
        return parse(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def dump(config: RunConfig) -> str:
    """The TOML text that repeats a run exactly."""
    return tomli_w.dumps(config.model_dump(exclude_none=True, mode="json"))


def scaled(value: float, digits: int = 6) -> float:
    """``value`` rounded to some significant digits, so that generated files stay readable."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value
