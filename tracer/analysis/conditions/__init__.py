"""The condition language of ``--break``: ``p_chosen < 0.3 and step > 3``, evaluated without ``eval``."""
