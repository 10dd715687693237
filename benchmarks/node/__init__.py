"""The broker of a node: started by many processes at once, used, and ended."""
