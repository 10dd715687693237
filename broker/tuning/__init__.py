"""Finds by measurement the settings with which a SavedModel runs best on this machine (docs/tuning.md).

setting -> candidates -> race -> choice     pure: what can be set, what is tried, in which order, what is taken
measurement, probe                          in processes of their own, which load the model and time it
experiment                                  starts these processes and lets the race use them
content, machine, records                   what a result depends on, and where it is remembered
tuner                                       all of it for the models of one broker, before TensorFlow is imported
"""
