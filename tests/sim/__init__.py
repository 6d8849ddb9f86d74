"""The simulator: production nodes in one thread, from a seed."""
