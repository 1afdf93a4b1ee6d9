"""Settings of every test: one thread, and property tests that draw the same examples each time."""

import torch
from hypothesis import settings

# Tiny matrices are slower on several threads, and pytest-xdist brings its own processes.
torch.set_num_threads(1)

# Derandomised, so that a failure seen once is seen again; no deadline, since machines are shared.
settings.register_profile("sharpflat", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("sharpflat")
