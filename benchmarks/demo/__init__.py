"""The demo: a digits classifier, one broker, gunicorn workers, real requests. `python -m benchmarks.demo` runs it.

__main__    the steps in order                  app         the web app: what a user writes
program     a process of the demo's             programs/   what runs in processes of its own: the trainer,
server      gunicorn, with a broker or without              the clients, the apps that app.py is compared with
load        the clients, and their answers      verdict     what must hold
machine     what must not be left behind        report      the tables; screen: the lines while it runs
"""
