"""The summary of scores, compiled."""
