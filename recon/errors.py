"""What a run may end with, told in one sentence instead of a traceback."""


class InputError(ValueError):
    """A mistake in what the user gave: one sentence that names the key or file and the remedy.

    `run.py` prints it without a traceback and ends with exit status 2.
    """


class JobFailed(RuntimeError):
    """A job of a sweep ended with another status than 0; its own output says why."""


def hydra_sentence(error: BaseException) -> str | None:
    """Tell what Hydra or OmegaConf found wrong with the command line in one sentence; None for any other exception."""
    origin = type(error).__module__.split(".")[0]
    if origin not in ("hydra", "omegaconf"):
        return None
    while error.__cause__ is not None and type(error.__cause__).__module__.split(".")[0] in ("hydra", "omegaconf"):
        if "Could not override" in str(error):
            break
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines)
