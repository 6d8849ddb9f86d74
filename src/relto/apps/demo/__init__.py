"""Real history, played by three nodes on one machine."""
