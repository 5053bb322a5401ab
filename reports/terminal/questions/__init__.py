"""Answers of the analyses on a terminal."""
