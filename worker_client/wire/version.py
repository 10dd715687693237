"""The release of onesession: broker and workers need the same one."""

__version__ = "0.2.0"
