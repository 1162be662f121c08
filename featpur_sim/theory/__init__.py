"""Predictions, bounds and the reduced model; sees no simulation (docs/theory.md section 5)."""

import lazy_loader

# The names and their modules stand in __init__.pyi; each is imported when it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
