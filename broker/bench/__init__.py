"""`onesession bench`: measures a model on this machine, called by real workers, beside the same model in each worker.

                    +- master - workers that call the broker ---- shared memory ---- broker (the only session)
    sweep.py -------+
    (this process)  +- master - workers with the model in each (`--compare`)

A master stands for a server's own: a fresh process that forks the workers (`load/`). `arms/` is what a worker calls.
A case is a number of workers, rows and a load; its windows are repeated until they agree (`stability.py`), arms in
turns. This process imports no TensorFlow and calls nothing itself.
"""
