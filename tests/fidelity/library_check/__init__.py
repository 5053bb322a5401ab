"""A pytest plugin that traces every ``generate()`` of transformers' own tests.

It runs in a process whose package ``tests`` is transformers', so its modules import one another relatively.
"""
