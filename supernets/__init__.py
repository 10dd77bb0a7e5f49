"""Weight-sharing super-networks and how they are tuned."""
