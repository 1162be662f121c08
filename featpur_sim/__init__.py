"""featpur_sim: feature purification by adversarial training, simulated and measured.

The model and the claims are those of Z. Allen-Zhu and Y. Li, *Feature Purification: How Adversarial
Training Performs Robust Deep Learning* (arXiv:2005.10190); docs/theory.md states them.
"""

import sys

# As typing's, which takes longer to import than all that the command needs to answer Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from featpur_sim.attack import FGM as FGM
    from featpur_sim.attack import PGD as PGD
    from featpur_sim.attack import Attack as Attack
    from featpur_sim.attack import DenseMixture as DenseMixture
    from featpur_sim.attack import RandomNoise as RandomNoise
    from featpur_sim.attack import Transfer as Transfer
    from featpur_sim.bias import BiasSchedule as BiasSchedule
    from featpur_sim.bias import Frozen as Frozen
    from featpur_sim.bias import LinearRamp as LinearRamp
    from featpur_sim.bias import PerNeuron as PerNeuron
    from featpur_sim.bias import Tabulated as Tabulated
    from featpur_sim.checkpoint import Checkpoint as Checkpoint
    from featpur_sim.classifier import Classifier as Classifier
    from featpur_sim.devices import split_neurons as split_neurons
    from featpur_sim.devices import spread as spread
    from featpur_sim.distribution import Batch as Batch
    from featpur_sim.distribution import SparseCoding as SparseCoding
    from featpur_sim.hidden_law import GaussianTwin as GaussianTwin
    from featpur_sim.hidden_law import HiddenLaw as HiddenLaw
    from featpur_sim.hidden_law import Levels as Levels
    from featpur_sim.hidden_law import TwoLevel as TwoLevel
    from featpur_sim.hidden_law import UniformMagnitude as UniformMagnitude
    from featpur_sim.measure import decompose as decompose
    from featpur_sim.measure import overlap as overlap
    from featpur_sim.measure import summarise as summarise
    from featpur_sim.measure import update_spectrum as update_spectrum
    from featpur_sim.network import SymmetricReLU as SymmetricReLU
    from featpur_sim.network import initialise as initialise
    from featpur_sim.network import pure_network as pure_network
    from featpur_sim.phase import AdversarialPhase as AdversarialPhase
    from featpur_sim.phase import CleanPhase as CleanPhase
    from featpur_sim.robustness import Accuracy as Accuracy
    from featpur_sim.robustness import robust_accuracy as robust_accuracy
    from featpur_sim.step import Status as Status
    from featpur_sim.train import TrainingRun as TrainingRun
    from featpur_sim.train import train as train
    from featpur_sim.train import train_many as train_many

__version__ = "0.1.0"

# Name → module that defines it. Nothing is imported before it is used (PEP 562): JAX takes seconds,
# in which 'featpur --help' would be slow and Ctrl-C would end in a traceback.
_HOME = {
    "Accuracy": "robustness",
    "AdversarialPhase": "phase",
    "Attack": "attack",
    "Batch": "distribution",
    "BiasSchedule": "bias",
    "Checkpoint": "checkpoint",
    "Classifier": "classifier",
    "CleanPhase": "phase",
    "decompose": "measure",
    "DenseMixture": "attack",
    "FGM": "attack",
    "Frozen": "bias",
    "GaussianTwin": "hidden_law",
    "HiddenLaw": "hidden_law",
    "initialise": "network",
    "Levels": "hidden_law",
    "LinearRamp": "bias",
    "overlap": "measure",
    "PerNeuron": "bias",
    "PGD": "attack",
    "pure_network": "network",
    "RandomNoise": "attack",
    "robust_accuracy": "robustness",
    "SparseCoding": "distribution",
    "split_neurons": "devices",
    "spread": "devices",
    "Status": "step",
    "summarise": "measure",
    "SymmetricReLU": "network",
    "Tabulated": "bias",
    "train": "train",
    "train_many": "train",
    "TrainingRun": "train",
    "Transfer": "attack",
    "TwoLevel": "hidden_law",
    "UniformMagnitude": "hidden_law",
    "update_spectrum": "measure",
}
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if not name.startswith("_"):
        import importlib.util

        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
            globals()[name] = value
            return value
        if importlib.util.find_spec(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(type(sys)):
    """Keeps `train` the function: the import of the module of that name would put itself there."""

    def __setattr__(self, name: str, value: object) -> None:
        shadows = name in _HOME and isinstance(value, type(sys))
        super().__setattr__(name, getattr(value, name) if shadows else value)


sys.modules[__name__].__class__ = _Package
