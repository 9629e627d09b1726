"""What a run may end with, told in one sentence instead of a traceback."""


class InputError(ValueError):
    """A mistake in what the user gave: one sentence that names the key or file and the remedy.

    `run.py` prints it without a traceback and ends with exit status 2.
    """
