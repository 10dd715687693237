"""The release that this is: broker and workers need the same."""

__version__ = "0.1.0"
