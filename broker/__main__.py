"""`python -m broker` runs the command `broker`."""

from broker.command import main

main()
