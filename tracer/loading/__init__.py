"""Models, tokenizers and prompts: everything that has to be there before a generation."""
