"""Repeating a recorded run, or a part of it, with torch and transformers."""
