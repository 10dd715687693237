"""`python -m broker` is the command `broker`."""

from broker.command import main

main()
