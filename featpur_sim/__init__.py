"""featpur_sim: feature purification by adversarial training, simulated and measured.

The model and the claims are those of Z. Allen-Zhu and Y. Li, *Feature Purification: How Adversarial
Training Performs Robust Deep Learning* (arXiv:2005.10190); docs/theory.md states them.

The names that every study needs are here; the rooms hold the rest: `data`, `models`, `attacks`,
`certify`, `training`, `measure`, `theory`, `runs`, `sweeps`, `claims`, `report`, `testing`
(docs/architecture.md).
"""

import lazy_loader

from featpur_sim._version import __version__ as __version__

# The names and their modules stand in __init__.pyi; each is imported when it is used: JAX takes
# seconds, in which 'featpur --help' would be slow and Ctrl-C would end in a traceback.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
