"""Observe a real generation: the only package that touches torch and transformers internals."""
