"""The one place that names the product version."""

__version__ = "0.1.0"
