"""Module calls of a forward pass: their order, signatures and statistics."""
