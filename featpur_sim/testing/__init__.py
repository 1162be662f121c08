"""Checks of what you bring: a problem, law, network, attack, schedule, loss, observer or claim.

Each tries what the package relies on and cannot see for itself. It returns nothing, or raises one
line that names the contract, what was found and what to do (docs/how-to/check-your-own.md).
"""

import lazy_loader

# The names and their modules stand in __init__.pyi; each is imported when it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
