"""The errors that end a run with one sentence instead of a traceback."""

import signal


class InputError(ValueError):
    """A mistake in what the user gave: one sentence that names the key or file and the remedy.

    `run.py` prints it without a traceback and ends with exit status 2.
    """


class Interrupted(BaseException):
    """A signal ended the run.

    Attributes:
        number: the signal's.
        saved: is there a checkpoint of the run to resume from?
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.saved = False
