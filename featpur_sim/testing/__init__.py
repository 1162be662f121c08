"""Checks of what users bring: whether it keeps the contract that the package relies on."""
