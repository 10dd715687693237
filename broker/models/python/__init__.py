"""Models that are Python: functions with a signature, factories, folders with a `model.py`, Keras models in memory."""
