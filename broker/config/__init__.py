"""What a broker is started with: settings, logs, the configuration file; `tfs` makes one from TensorFlow Serving's."""
