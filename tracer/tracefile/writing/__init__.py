"""Writing a trace file, one transaction per step."""
