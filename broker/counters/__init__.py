"""Counters that serving threads write at the cost of a few instructions; `observe` reads them."""
