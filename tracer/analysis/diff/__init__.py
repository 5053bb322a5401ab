"""Two runs compared: where they part, and why."""
