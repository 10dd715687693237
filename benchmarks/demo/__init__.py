"""The demo: a digits classifier, one broker, gunicorn workers, real requests. `python -m benchmarks.demo` runs it.

__main__                    the steps in order
app                         the web app: what a user writes
programs/                   the trainer, and the apps that app.py is compared with
program, server, broker     how the demo starts those, follows and ends them
load, client                what is sent, and what comes back
processors, server_figures  what it costs
verdict, machine            what must hold, and what must not be left behind
report, screen              the tables; the lines while it runs
"""
