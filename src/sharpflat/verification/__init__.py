"""Trains stretches of committed runs again, and says how far apart the numbers are."""
