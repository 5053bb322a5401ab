"""Encoding records and tensors as bytes, and decoding them."""
