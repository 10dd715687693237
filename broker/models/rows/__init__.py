"""Whether a signature's rows are independent, so that requests may be joined and split: found by running it."""
