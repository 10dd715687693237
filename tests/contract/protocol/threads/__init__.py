"""The threads of worker and broker as programs of the model, one file a thread."""
