"""JPEG as tensors against Pillow in a loop: CPU time at one thread, interleaved, and the same values."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recon.degradations.codec import JPEG

sys.path.insert(0, str(Path(__file__).parents[1]))
from damage import images, keys

pytestmark = pytest.mark.bench

ROUNDS = 9
# Images, their shape, least speed-up. On large photographs libjpeg, whose passes are all one loop over 16-bit numbers
# in the cache, is about as fast as some eighty passes over float32: there the tensor form is for GPUs and gradients.
CASES = [(256, (1, 28, 28), 5), (256, (3, 32, 32), 4), (16, (3, 256, 256), 0.6)]


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("count", "size", "least"), CASES)
def test_tensors_are_faster_than_pillow_in_a_loop(count, size, least, capsys):
    clean, some_keys = images(size, count), keys(count)
    tensors, files = JPEG(20), JPEG(20, exact=True)
    assert torch.equal(tensors(clean, some_keys).image, files(clean, some_keys).image)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: tensors(clean, some_keys)))
        theirs.append(seconds(lambda: files(clean, some_keys)))
    speed_up = statistics.median(theirs) / statistics.median(ours)
    with capsys.disabled():
        print(
            f"\njpeg {'x'.join(map(str, (count, *size))):>14}: tensors {1e3 * statistics.median(ours):6.1f} ms"
            f", Pillow in a loop {1e3 * statistics.median(theirs):6.1f} ms, {speed_up:.1f} times faster"
        )
    assert speed_up >= least
