"""How a broker is started: settings, logs, the configuration file; `tfs` converts TensorFlow Serving's files to one."""
