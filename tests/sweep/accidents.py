"""A degradation that goes wrong in the midst of training, as jobs of a sweep do."""

import math
import os
import signal
from pathlib import Path

from torch import Tensor

from recon.data import store
from recon.degradations.base import Degraded
from recon.degradations.noise import GaussianNoise

store._TOGETHER = 1  # batch by batch, so that an accident falls between two steps


class Accident(GaussianNoise):
    """Gaussian noise, but job 3 raises, job 5 is killed as the kernel does without memory, and job 7 turns to NaN.

    Args:
        sigma: of the noise.
        job: which job this is.
        once: a file that remembers the accident, so that it happens only once; "" for each time.
        after: how many batches go well.
    """

    def __init__(self, sigma: float, job: int, once: str = "", after: int = 3) -> None:
        super().__init__(sigma)
        self.job, self.once, self.after = job, once, after

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        degraded = super().degrade(clean, keys)
        self.after -= 1
        if self.after >= 0 or (self.once and Path(self.once).exists()):
            return degraded
        if self.once and self.job in (3, 5, 7):
            Path(self.once).touch()
        if self.job == 3:
            raise MemoryError("a buffer of 3 GB could not be had")
        if self.job == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return degraded._replace(image=degraded.image * math.nan) if self.job == 7 else degraded


class OneFails(GaussianNoise):
    """Gaussian noise, but one process of several raises after two batches."""

    def __init__(self, sigma: float, rank: int) -> None:
        super().__init__(sigma)
        self.rank, self.calls = rank, 0

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        self.calls += 1
        if os.environ.get("LOCAL_RANK") == str(self.rank) and self.calls > 2:
            raise RuntimeError("this process fails")
        return super().degrade(clean, keys)
