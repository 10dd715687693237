"""Decides which requests run next, and together. Knows neither slots nor models; the clock is passed in."""
