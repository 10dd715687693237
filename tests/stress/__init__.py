"""Workers and their broker killed, suspended, hung, reloaded and restarted at random while they work:
`python -m tests.stress --kills 1000`.

__main__.py    the command
campaign.py    bout after bout, each with processes of its own; after each the machine must be clean
chaos.py       what is done next, and to whom
crew.py        plain workers: their processes, those that replace killed ones, what each has reported
body.py        what a worker does until it is told to stop: calls in all forms, in two threads
forms.py       the forms of a call, each of which checks its answers
verdicts.py    which errors a caller must expect, and after what
hung.py        the same with models that loop, in a function or a graph
site.py        gunicorn, its workers and its broker, and who asks it over HTTP
board.py       what the processes of a bout tell each other
wrong.py       a broken model, to show that its answers would be found
"""
