"""Reading a trace file, which may be incomplete, damaged or hostile."""
