"""The cards of a step on a terminal."""
