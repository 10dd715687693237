"""Finds by runs whether a signature's rows are independent, so that requests may be joined and split."""
