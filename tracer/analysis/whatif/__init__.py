"""What a recorded run would have chosen under other generation settings."""

from tracer.analysis.whatif.replay import whatif, whatif_grid

__all__ = ["whatif", "whatif_grid"]
