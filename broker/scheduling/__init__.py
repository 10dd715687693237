"""Who runs next, and with whom. Knows neither slots nor models; what decides on batches has the clock passed in."""
