"""SSIM against torchmetrics': CPU time at one thread, interleaved, and peak memory in a process of its own."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.image import StructuralSimilarityIndexMeasure

from recon.metrics import ssim

pytestmark = pytest.mark.bench

ROUNDS = 7
# Shape, calls of recon per round (so that a round lasts long enough for the clock), least speed-up.
CASES = [((256, 1, 28, 28), 20, 35), ((256, 3, 32, 32), 5, 14), ((1, 3, 1024, 1024), 2, 10)]

# VmHWM and not getrusage, whose peak a child inherits from its parent.
PEAK = """
import sys
import torch
from torchmetrics.image import StructuralSimilarityIndexMeasure
from recon.metrics import ssim

def torchmetrics(image, clean):
    metric = StructuralSimilarityIndexMeasure(data_range=1.0)
    metric.update(image, clean)
    metric.compute()

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

torch.set_num_threads(1)
metric = {"recon": ssim, "torchmetrics": torchmetrics}[sys.argv[1]]
shape = [int(size) for size in sys.argv[2:]]
image, clean, small = torch.rand(shape), torch.rand(shape), torch.rand(1, 1, 70, 70)
metric(small, small)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
metric(image, clean)
print(status("VmHWM") - before)
"""


def torchmetrics_ssim(image: Tensor, clean: Tensor) -> Tensor:
    metric = StructuralSimilarityIndexMeasure(data_range=1.0)
    metric.update(image, clean)
    return metric.compute()


def seconds(function: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls


def peak_mib(which: str, shape: tuple[int, ...]) -> float:
    command = [sys.executable, "-c", PEAK, which, *map(str, shape)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("shape", "calls", "least"), CASES)
def test_ssim_is_faster_and_leaner_than_torchmetrics(shape, calls, least, capsys):
    clean = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    image = clean + 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ssim(image, clean), torchmetrics_ssim(image, clean)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: ssim(image, clean), calls))
        theirs.append(seconds(lambda: torchmetrics_ssim(image, clean), 1))
    speed_up = statistics.median(theirs) / statistics.median(ours)
    our_peak, their_peak = peak_mib("recon", shape), peak_mib("torchmetrics", shape)
    with capsys.disabled():
        print(
            f"\nssim {'x'.join(map(str, shape)):>15}: recon {1e3 * statistics.median(ours):7.2f} ms {our_peak:6.1f} MiB"
            f", torchmetrics {1e3 * statistics.median(theirs):8.2f} ms {their_peak:6.1f} MiB"
            f", {speed_up:.1f} times faster, 1/{their_peak / our_peak:.0f} of the memory"
        )
    assert speed_up >= least
    assert our_peak <= their_peak / 5
