"""One run from end to end: settings in, a folder out, and back again."""

import lazy_loader

# The names and their modules stand in __init__.pyi; each is imported when it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
