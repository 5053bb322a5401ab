"""Recordings in the formats of other programs; step after step, so that memory stays bounded."""
