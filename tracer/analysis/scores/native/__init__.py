"""The score summary, compiled."""
