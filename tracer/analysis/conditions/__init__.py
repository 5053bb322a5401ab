"""The condition language: ``p_chosen < 0.3 and step > 3``, parsed and evaluated without ``eval``."""
