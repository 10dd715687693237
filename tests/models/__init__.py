"""Makers of the models that tests serve: SavedModels of many kinds, LiteRT and Keras files, numbered versions."""
