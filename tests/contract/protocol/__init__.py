"""A model of the protocol, small enough that every interleaving can be tried.

    fields.py      what a state is: words of shared memory, posts of semaphores, program counters, in one `bytes`
    fate.py        kills, suspensions, cancellations
    model.py       all threads together, and what must hold when they are at rest
    explorer.py    breadth-first over all states; the shortest way to a fault, as a story
    mutations.py   the protocol with one mistake in it, each of which must be found
    diagram.py     the table of states as docs/protocol.md draws it

    threads/       the threads of worker and broker:
      program.py     how a thread's program is written: one method for each place it can be at
      caller.py      a worker's calling thread: claim, write, push, wait, release; reaping.py: abandoned slots
      watcher.py     its deadline keeper, and time; dispatcher.py: its futures' thread; slots.py: what they all have
      intake.py      the broker's intake thread; completing.py: from run to post; pool.py: runners, control thread

One step of a thread is one store, one look at a word of the other side, or one operation on a semaphore, as ring.py,
slot.py, channel.py, futures.py and intake.py have them; test_protocol_model.py holds the two against each other.
"""
