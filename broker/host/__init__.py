"""The machine and this process: processors, memory, descriptors, time slices, settings of the interpreter."""
