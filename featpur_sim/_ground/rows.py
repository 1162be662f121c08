"""Names for what JSON and TOML files hold, as Python reads it."""

from typing import Any

Row = dict[str, Any]
"""One row of a table that a command prints, a JSON file keeps and the report shows."""

Settings = dict[str, Any]
"""A table of a settings file, or options by name."""
