"""Answers of the analyses, put into words."""
