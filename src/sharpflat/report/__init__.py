"""One self-contained page: figures with their numbers, claims, runs and provenance."""
