"""What threads that serve write as they go, at the cost of a few instructions; `observe` reads it."""
