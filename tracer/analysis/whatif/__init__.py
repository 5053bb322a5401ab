"""A recorded run under other generation settings."""
