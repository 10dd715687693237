"""Finds by measurement the settings with which a SavedModel runs best on this machine (docs/tuning.md).

setting -> candidates -> race -> choice     pure: possible settings, those to try, the order, the choice
measurement, probe                          in separate processes, which load the model and time it
experiment                                  starts these processes and lets the race use them
content, machine, records                   what a result depends on, and its record
tuner                                       all of it for the models of one broker, before TensorFlow is imported
"""
