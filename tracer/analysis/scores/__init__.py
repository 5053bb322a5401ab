"""Summaries of the score pipeline: from rows over the whole vocabulary to the few numbers a step records."""
