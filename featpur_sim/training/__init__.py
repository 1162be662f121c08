"""Clean and adversarial training by gradient descent (docs/theory.md section 3)."""

import lazy_loader

# The names and their modules stand in __init__.pyi; each is imported when it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
