"""The command line: arguments in, calls out, and every expected error as one line with its exit code."""
