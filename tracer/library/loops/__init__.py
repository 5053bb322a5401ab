"""The decoding loops that are traced, a file each."""
