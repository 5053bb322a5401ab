"""Pure functions on records: no torch, no files."""
