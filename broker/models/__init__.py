"""The models a broker serves: what is asked for (`spec`), what a loaded one can do (`model`), first runs (`warmup`).

The folders, each importing only those below it, and the files here:

lifecycle    versions from load to unload, and who brings them up to date
python       models that are Python
sources      models that are files, opened with TensorFlow
files        where a model lies on disk, told without TensorFlow
effects      what a run does besides computing
tf           TensorFlow itself
rows         whether a signature's rows are independent
"""
