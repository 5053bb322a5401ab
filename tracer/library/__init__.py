"""What is known of the traced library: its releases, and the decoding loop that each of them has."""
