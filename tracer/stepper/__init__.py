"""Step through a generation in the terminal.

What a recording is stepped through with is in modules that need no torch: its commands and its lines.
"""
