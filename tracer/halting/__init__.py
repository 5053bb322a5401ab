"""Halting a run at its stops, and what is known of it there."""
