"""Workers that lie, as fast as can be: the broker's own code on real memory, with one honest worker beside.

__main__.py  as many of them as you like, by a command
models.py    what is served
target.py    intake, channels, slots and runner in this process; what must hold after each request
cases.py     requests with something wrong in them
meddler.py   a process that changes the memory while it is read
"""
