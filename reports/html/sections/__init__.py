"""The data of a recording's page: one module for each kind of section, collected from a run step by step."""
