"""The configuration file: read and checked (`file`), shown (`show`), made from TensorFlow Serving's (`tfs`)."""
