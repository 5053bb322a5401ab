"""Writing a trace file, in transactions of some steps."""
