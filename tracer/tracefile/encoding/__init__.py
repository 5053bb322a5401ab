"""Records and tensors as bytes, and back."""
