"""Step through a recording in the terminal."""
