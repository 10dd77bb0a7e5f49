"""Light predictors of accuracy, latency and size from a genome."""
