"""The error that every data problem is reported as."""


class DataError(RuntimeError):
    """A data set cannot be had, or is not what it should be; the message says what to do."""
