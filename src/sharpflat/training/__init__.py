"""Training runs: a shared SGD prefix, and the methods that branch from its switch."""
