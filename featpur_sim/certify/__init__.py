"""Certificates: sound lower bounds on robust accuracy (docs/theory.md, section 8)."""

from featpur_sim.certify.cascade import DEFAULT_EFFORT as DEFAULT_EFFORT
from featpur_sim.certify.cascade import STAGES as STAGES
from featpur_sim.certify.cascade import Certificate as Certificate
from featpur_sim.certify.cascade import Contradiction as Contradiction
from featpur_sim.certify.cascade import Effort as Effort
from featpur_sim.certify.cascade import certify as certify
from featpur_sim.certify.cascade import require_consistent as require_consistent
from featpur_sim.certify.problem import NotCertified as NotCertified
from featpur_sim.certify.problem import Problem as Problem
from featpur_sim.certify.radius import certified_radius as certified_radius
from featpur_sim.certify.rounding import float32_inference_error as float32_inference_error
