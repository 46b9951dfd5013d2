"""Marks the spans of a text that answer any queried label, in spaCy pipelines.

Importing this package is light: spaCy, torch and transformers are loaded by the
modules that need them, which spaCy finds through entry points.
"""

__version__ = "0.1.0"
