"""Imports at the start of a run: what is left out is there when it is used."""

import gc
import subprocess
import sys

from conftest import ROOT

from recon.training.quick import quick_imports

LIGHTNING = """
import sys
from recon.training.quick import quick_imports
with quick_imports():
    import lightning.pytorch
assert not [name for name in sys.modules if name.startswith("scipy.signal")]
import scipy.signal
from scipy import signal
assert signal.lfilter([1.0], [1.0], [2.0]).tolist() == [2.0] and scipy.signal.windows.hamming(3)[1] == 1
import torchmetrics
assert torchmetrics.MeanMetric()(3.0) == 3
"""
USED = """
import sys
from recon.training.quick import quick_imports
with quick_imports():
    import scipy.signal
    held = scipy.signal
    from scipy.signal import lfilter
    import scipy.signal.windows
    assert held.lfilter is lfilter
assert sys.modules["scipy.signal"].lfilter is lfilter
"""

DIGITS = """
import sys
from pathlib import Path
from recon.data.tasks.digits import Digits
assert len(Digits(batch_size=2, epochs=1, validation=0.1, crop=None).load(Path()).test) == 360
assert "sklearn" not in sys.modules
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_lightning_comes_without_scipy_signal() -> None:
    run(LIGHTNING)


def test_digits_come_without_scikit_learn() -> None:
    run(DIGITS)


def test_who_uses_it_in_the_meantime_gets_it() -> None:
    """As librosa would, which torchmetrics imports where it is installed."""
    run(USED)


def test_the_collector_goes_on() -> None:
    import scipy.signal

    with quick_imports():
        assert not gc.isenabled()
        assert sys.modules["scipy.signal"] is scipy.signal
    assert gc.isenabled()
    gc.unfreeze()
