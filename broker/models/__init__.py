"""The models that a broker serves: their settings (`spec`), the interface of a loaded model (`model`), first runs
(`warmup`).

The folders, each importing only those below it, and the files here:

lifecycle    versions from load to unload, and the thread that brings them up to date
python       models that are Python
sources      models that are files, opened with TensorFlow
files        finds models on disk, without TensorFlow
effects      what a run does besides computing
tf           TensorFlow itself
rows         whether a signature's rows are independent
"""
