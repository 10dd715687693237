"""T12 and T13: random kills and hostile headers, as the test programs for them survive them."""
