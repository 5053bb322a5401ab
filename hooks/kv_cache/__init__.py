"""The KV cache: its slots before and after each step, and the checks that it only grows."""
