"""The decoding loop from outside: what ``generate()`` is given, each step, and how it ends."""
