"""What a device can run, and what it costs there."""
