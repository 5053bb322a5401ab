"""From score rows over the whole vocabulary to the few numbers that a step records."""
