"""The demo: a digits classifier, one broker, gunicorn workers, real requests. `python -m benchmarks.demo` runs it.

__main__                    the steps in order
app                         the web app: what a user writes
programs/                   what else runs in processes of its own: trainer, clients, what app.py is compared with
program, server, broker     how the demo starts those, follows and ends them
load, processors, measured  what is sent, what comes back, what it costs
verdict, machine            what must hold, and what must not be left behind
report, screen              the tables; the lines while it runs
"""
