"""trace-generate: a step-through tracer for Hugging Face generation."""
