"""Where a journey through a recording halts: breakpoints at the lines of stops, and findings."""
