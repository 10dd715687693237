"""Versions of models from load to unload: which are in service, and who brings them up to date."""
