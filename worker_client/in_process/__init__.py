"""The same client over models in this process, where there is no broker: for tests, and for systems other than Linux.

    Model, Request, Session, futures, event loops     the real ones, unchanged
        |
    Connection, Channel                               in place of these: slots in memory of the process's own
        |
    Engine                                            the broker's loaders (`inline:`), or canned answers (a fake)

Inputs are checked, cast and laid out by the client's own code, and read from a slot of the same layout. What is missing
is what lies between two processes: rings, semaphores, batches, restarts.
"""
