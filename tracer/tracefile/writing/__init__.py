"""Writing a trace file, one transaction a step."""
