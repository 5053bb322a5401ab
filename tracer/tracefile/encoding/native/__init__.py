"""Compiled code that encoding works without, only slower."""
