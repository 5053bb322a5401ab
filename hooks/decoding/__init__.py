"""What a decoding loop does beside a forward pass, processors, a choice and an append."""
