"""Versions of models from load to unload: which are in service, and the thread that brings them up to date."""
