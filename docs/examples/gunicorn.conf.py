# gunicorn reads this file by itself:    gunicorn --workers 4 flask_app:app
#
# These two lines start the broker with the arbiter and end it with the arbiter. Put them below your own hooks. They
# are all there is to do for --preload, --max-requests, a reload (SIGHUP), an upgrade (SIGUSR2), and `user = ...`.

# ruff: noqa: INP001

from broker.integrations import gunicorn

gunicorn.serve(globals(), models={"mean": "example_model:mean"})
