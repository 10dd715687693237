"""Everything except requests: the hold on the address, the connections, and the messages on the socket."""
