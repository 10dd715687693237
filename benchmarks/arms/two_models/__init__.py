"""A light model's worker beside another model that computes or loads."""
