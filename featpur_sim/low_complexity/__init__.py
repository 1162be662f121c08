"""Competitors of the network: models of low complexity (docs/theory.md §6, claim C8).

Each is a `Classifier`, trained here and attacked by the same code as the network. What no member of
a class can exceed is in `featpur_sim.bounds`; what some provably reach, in `featpur_sim.witness`.
"""

from featpur_sim.low_complexity.fit import best_member as best_member
from featpur_sim.low_complexity.fit import fit as fit
from featpur_sim.low_complexity.full_polynomial import FullPolynomial as FullPolynomial
from featpur_sim.low_complexity.linear import LinearClassifier as LinearClassifier
from featpur_sim.low_complexity.linear import train_linear as train_linear
from featpur_sim.low_complexity.ntk import NTKClassifier as NTKClassifier
from featpur_sim.low_complexity.ntk import gate_bias as gate_bias
from featpur_sim.low_complexity.ntk import random_gates as random_gates
from featpur_sim.low_complexity.ntk_limit import NTKLimit as NTKLimit
from featpur_sim.low_complexity.polynomial import PolynomialClassifier as PolynomialClassifier
from featpur_sim.low_complexity.polynomial import symmetric_terms as symmetric_terms
