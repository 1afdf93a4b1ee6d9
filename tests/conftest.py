"""Settings of every test: one thread, and property tests that draw the same examples each time."""

import pytest
import torch
from hypothesis import settings

# Tiny matrices are slower on several threads, and pytest-xdist brings its own processes.
torch.set_num_threads(1)

# Derandomised, so that a failure seen once is seen again; no deadline, since machines are shared.
settings.register_profile("sharpflat", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("sharpflat")

#: Files that take longest, and wait for processes of their own: begun first, in this order.
FIRST = (
    "test_workflow_smoke.py",
    "test_workflow_reruns.py",
    "test_archive_workflow.py",
    "test_kills.py",
    "test_pages.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, which ``--no-loadscope-reorder`` keeps."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))
