"""What is trained: data sets, models and losses, each a registry entry and a small file.

:mod:`~sharpflat.tasks.registry` names them without importing torch, so that a workflow can check
its configuration cheaply. :mod:`~sharpflat.tasks.prepare` writes a data set's canonical file,
:mod:`~sharpflat.tasks.data` loads it, and :func:`sharpflat.tasks.models.build_model` and
:func:`sharpflat.tasks.losses.load_loss` build the rest of a task.
"""
