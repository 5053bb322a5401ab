"""Scores of a step from raw logits to the choice, and the RNG state that a draw starts from."""
