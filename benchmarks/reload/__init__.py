"""T10: what a light model's callers notice while another model of the same broker gets its next version."""
