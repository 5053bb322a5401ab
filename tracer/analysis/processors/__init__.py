"""The logits processors of transformers in NumPy, rebuilt from their records."""
