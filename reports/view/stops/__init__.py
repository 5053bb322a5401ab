"""The cards of a step, one for each stop."""
