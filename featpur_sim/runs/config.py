"""Settings of a run: a TOML file ⟷ typed, checked values (docs/theory.md §1-§3).

Every setting is checked before anything is computed; a wrong one gives a single
`ConfigError` that names it, its value, the rule and the fix.
"""

import difflib
import math
import os
import reprlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tomli_w
from pydantic import ConfigDict, Field

from featpur_sim._ground.checks import ConfigError as ConfigError


class _Section(pydantic.BaseModel):
    # Strict: TOML has types, so true or "5" where a number belongs is a slip.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


Fraction = Annotated[float, Field(gt=0, le=1)]
# Steps, rows and sizes are counted in int32 on the device.
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
# Numbers reach the device as float32.
NonNegative = Annotated[float, Field(ge=0, le=1e30)]
Positive = Annotated[float, Field(gt=0, le=1e30)]


class ProblemConfig(_Section):
    """Data: x = Mz + ξ, y = sign⟨w*, z⟩ (§1)."""

    d: Annotated[Count, Field(ge=2)]
    k: Annotated[float, Field(ge=1)]
    sigma_x: NonNegative = 0.3
    features: Annotated[Count, Field(ge=2)] | None = None
    law: Literal["two-level", "uniform-magnitude", "levels", "gaussian-twin"] = "two-level"
    p_one: NonNegative = 1.0
    levels: list[Fraction] | None = None
    rates: list[NonNegative] | None = None
    wstar: Literal["signs", "uniform"] = "signs"
    # TOML has lists but no tuples.
    wstar_range: Annotated[tuple[Positive, Positive], Field(strict=False)] | None = None
    dictionary: Literal["identity", "haar", "hadamard", "dct", "incoherent"] = "identity"


class NetworkConfig(_Section):
    """Network and its start (§2)."""

    neurons: Count
    sigma_0: Positive = 0.01
    smoothing: Literal["none", "sampled", "closed"] = "none"
    sigma_rho: NonNegative = 0.0


class BiasConfig(_Section):
    """Bias schedule of the clean phase (§3, §7.1)."""

    schedule: Literal["linear-ramp", "per-neuron", "tabulated", "frozen"] = "linear-ramp"
    start: NonNegative | None = None
    stop: NonNegative | None = None
    fraction: Fraction | None = None
    begin: NonNegative | None = None
    end: NonNegative | None = None
    ceiling: Positive | None = None
    monotone: bool | None = None
    fractions: list[float] | None = None
    values: list[NonNegative] | None = None

    @pydantic.model_validator(mode="after")
    def _only_what_the_schedule_reads(self):
        reads = {
            "linear-ramp": {"start", "stop", "fraction"},
            "per-neuron": {"start", "stop", "begin", "end", "ceiling", "monotone"},
            "tabulated": {"fractions", "values"},
            "frozen": {"start"},
        }[self.schedule]
        needs = {"linear-ramp": {"stop"}, "per-neuron": {"stop"}, "tabulated": reads}
        given = {name for name, value in self if name != "schedule" and value is not None}
        missing = needs.get(self.schedule, set()) - given
        if missing:
            raise ValueError(f"schedule '{self.schedule}' needs {', '.join(sorted(missing))}")
        if given - reads:
            raise ValueError(
                f"schedule '{self.schedule}' does not read {', '.join(sorted(given - reads))}"
            )
        return self


class PhaseConfig(_Section):
    """One phase of gradient descent (§3)."""

    steps: Count
    learning_rate: Positive = 0.5
    weight_decay: NonNegative = 1e-4
    batch: Count = 512
    microbatch: Count | None = None
    dataset_size: Count | None = None
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "lion"] = "sgd"

    @pydantic.model_validator(mode="after")
    def _microbatch_divides(self):
        if self.microbatch is not None and self.batch % self.microbatch:
            raise ValueError(f"microbatch = {self.microbatch} must divide batch = {self.batch}")
        return self


class CleanConfig(PhaseConfig):
    """The clean phase."""

    bias: BiasConfig


class AdversarialConfig(PhaseConfig):
    """The adversarial phase."""

    attack: Literal["fgm", "pgd", "random-noise"] = "fgm"
    norm: Literal["l2", "linf"] = "l2"
    radius: Positive
    pgd_steps: Count = 10
    rank: Count | None = None


class EvaluationConfig(_Section):
    """How the networks are attacked; radii are multiples of the training radius."""

    samples: Annotated[Count, Field(ge=100)] = 1000
    radii: list[NonNegative] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
    pgd_steps: Count = 40
    pgd_restarts: Count = 2
    certify_points: Annotated[int, Field(ge=0, le=2**31 - 1)] = 200

    @pydantic.field_validator("radii")
    @classmethod
    def _rising_and_through_one(cls, radii):
        if sorted(set(radii)) != list(radii) or 0.0 not in radii or 1.0 not in radii:
            raise ValueError("radii must rise strictly and hold 0 and 1 (the training radius)")
        return radii


class RunConfig(_Section):
    """Everything that one run depends on."""

    name: str = "run"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 5
    records: Annotated[int, Field(ge=1, le=10_000)] = 30
    problem: ProblemConfig
    network: NetworkConfig
    clean: CleanConfig
    adversarial: AdversarialConfig
    evaluation: EvaluationConfig = EvaluationConfig()

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
    def attack_fits_gauge(self) -> bool:
        """Whether everything in this run is ℓ2, so that a unitary M may be rotated away (§1)."""
        return self.adversarial.norm == "l2"


def parse(settings: dict[str, Any]) -> RunConfig:
    """A checked configuration from a nested dictionary.

    Raises:
        ConfigError: one message that lists every wrong setting.
    """
    try:
        return RunConfig.model_validate(settings)
    except pydantic.ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(" ".join(lines)) from None


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


def require_memory(config: RunConfig) -> None:
    """Refuse a run that cannot fit, before anything is computed.

    Raises:
        ConfigError: the estimate exceeds the machine's memory.
    """
    need, have = estimate_memory(config), machine_memory()
    if have is not None and need > have:
        raise ConfigError(
            f"this run needs about {need / 2**30:.1f} GiB and the machine has {have / 2**30:.1f}: "
            "lower seeds, network.neurons or problem.d, or set microbatch below batch in "
            "[clean] and [adversarial]."
        )


def machine_memory() -> int | None:
    """Bytes of memory that this machine has; None where Python cannot tell, as on Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def estimate_memory(config: RunConfig) -> int:
    """Bytes that a run keeps at once: weights with their copies, one chunk's activations, M."""
    d, m = config.problem.d, config.network.neurons
    features = config.problem.features or d
    rows = max(
        *((p.microbatch or p.batch) for p in (config.clean, config.adversarial)),
        config.evaluation.samples,
    )
    weights = 8 * m * d  # three phases, two snapshots, gradient, update, optimiser
    activations = rows * (4 * m + 6 * (d + features))
    data = sum((p.dataset_size or 0) * (d + features) for p in (config.clean, config.adversarial))
    matrix = 0 if config.problem.dictionary == "identity" else 2 * d * features
    return 4 * (config.seeds * (weights + activations + data) + matrix)


def _explain(item: Any) -> str:
    parts = [str(part) for part in item["loc"]]
    where = ".".join(p if p.isprintable() else repr(p) for p in parts) or "settings"
    if item["type"] == "extra_forbidden":
        *sections, name = item["loc"]
        known = _known_keys(sections)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}."
        return f"{where} is not a setting: {hint}"
    if item["type"] == "missing":
        return f"{where} is missing: add it, or start from 'featpur init'."
    value = item["input"]
    shown = "" if isinstance(value, dict) or item["loc"] == () else f" = {_shown(value)}"
    kind = item["type"]
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return (
            f"{where}{shown} is written as a number with a fraction, as 2e3 is: write {int(value)}."
        )
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if message != item["msg"] and kind != "value_error":
        message = f"must be {_WANTED.get(kind, message)}"
    message = message[0].lower() + message[1:]
    return f"{where}{shown}: {message}."


# What kind of value was wanted → how to write it, where pydantic speaks of its own types.
_WANTED = {
    "int_type": "a whole number, such as 2000: no quotes, no decimal point",
    "float_type": "a number, such as 0.5: no quotes",
    "string_type": 'text, in quotes: "name"',
    "bool_type": "true or false",
    "list_type": "a list, such as [0.5, 1.0]",
    "tuple_type": "a list of two numbers, such as [0.5, 1.0]",
    "model_type": "a section, with settings of its own",
}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def _known_keys(sections: list[Any]) -> list[str]:
    model: Any = RunConfig
    for section in sections:
        model = model.model_fields[section].annotation
    return list(model.model_fields)


def scaled(value: float, digits: int = 6) -> float:
    """``value`` rounded to some significant digits, so that generated files stay readable."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value
