"""A traced generation from a request, and pairs of requests that differ in one thing."""
