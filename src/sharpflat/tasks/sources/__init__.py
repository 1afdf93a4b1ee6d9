"""Where data sets come from: functions ``(name, entry, *, mirror) -> Prepared``, one file a way.

Each imports the package it needs when it is called, since none of them is needed to train.
"""
