"""Compiled code that the rest of the package works without, only slower."""
