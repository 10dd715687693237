"""`python -m benchmarks http`: one Flask app behind gunicorn, with each way for its workers to have a model's answers.

command, bench      what is measured, how long, and with what
apps/               the app, its models, gunicorn's configuration: what a user writes
contenders          the arms
server, server_arm  gunicorn started, followed and ended; as an arm of the harness
exchange, load      one request; many of them
starts              arms started one at a time, on a machine that is otherwise quiet: memory, time to the first answer
comparison          T14
"""
