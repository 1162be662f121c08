"""featpur_sim: feature purification by adversarial training, simulated and measured.

The model and the claims are those of Z. Allen-Zhu and Y. Li, *Feature Purification: How Adversarial
Training Performs Robust Deep Learning* (arXiv:2005.10190); docs/theory.md states them.
"""

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
