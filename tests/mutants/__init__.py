"""Breaks the code in many small ways and sees whether the tests notice (`make mutants`, docs/mutants.md)."""
