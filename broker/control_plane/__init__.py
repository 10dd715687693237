"""What is not a request: who has the address, who is connected, and what is asked over the socket."""
