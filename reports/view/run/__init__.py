"""A run as a whole: its header, its course, its end."""
