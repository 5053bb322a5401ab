"""Answers to what a person asks at a halt: names, conditions, why, what-if."""
