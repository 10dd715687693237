"""The models that are measured, and what makes them. Tests serve some of them, too; nothing here knows the tests.

functions    Python functions
mlp          the small SavedModel of most targets
uneven       SavedModels that warm-up takes for lighter than they are
exporting    writes SavedModels in a process of its own
"""
