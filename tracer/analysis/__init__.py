"""Analyses of recorded runs: pure functions on records, without torch and without files."""
