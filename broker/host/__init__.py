"""The machine and this process on it: processors, memory, descriptors, time slices, the interpreter's switches."""
