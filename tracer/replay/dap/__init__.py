"""The Debug Adapter Protocol, served on a recording."""
