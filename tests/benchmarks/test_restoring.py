"""`action=restore` on a photograph of 12 megapixels: tiles against the whole picture at once; and small ones.

`make bench` prints megapixels a second and the highest memory of each weights that come along, of float32, of bfloat16
where the processor has it, and of ONNX Runtime, each in a process of its own.
"""

import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from skimage.data import astronaut

from recon.restore.batch import Writing, restore_all
from recon.restore.outputs import jobs
from recon.restore.plan import Wishes, named
from recon.restore.weights import restorers

pytestmark = pytest.mark.bench
HEIGHT, WIDTH = 3000, 4000
LEAST_SPEED, MOST_MEMORY, SOON = 0.95, 0.25, 2.5
MOST_OVERHEAD = 15  # milliseconds a picture, or seconds a thousand, but for what the nets take

MEASURE = """
import json, resource, sys, time
import torch
sys.path.insert(0, sys.argv[1])
from recon.restore.mend import TILE, Settings, runner
from recon.restore.weights import load_weights
how, height, width = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
weights = load_weights(sys.argv[2])
scale = weights.about.facts["scale"]
image = torch.rand(1, weights.about.facts["in_channels"], height // scale, width // scale)
if how == "onnx":
    from recon.export.onnx import onnx_of, session
    from recon.restore.tiles import tiled
    net = session(onnx_of(weights))
    work = lambda: tiled(net, image, weights.about.reach, TILE)
else:
    net = weights.net if how == "whole" else runner(weights, Settings())
    work = lambda: net(image)
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=how == "bf16"):
    net(image[..., :256, :256])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"speed": height * width / scale**2 / 1e6 / seconds, "memory": (peak - before) / 1024}))
"""


def measured(name: str, how: str) -> dict[str, float]:
    words = [sys.executable, "-c", MEASURE, str(ROOT), name, how, str(HEIGHT), str(WIDTH)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", restorers())
def test_tiles_take_a_quarter_of_the_memory_and_are_as_fast(name: str) -> None:
    found = {how: measured(name, how) for how in ("whole", "tiles", "bf16", "onnx")}
    print(
        f"\n{name}: "
        + "; ".join(f"{how} {each['speed']:.2f} Mpx/s, {each['memory']:.0f} MB" for how, each in found.items())
    )
    assert found["tiles"]["memory"] <= MOST_MEMORY * found["whole"]["memory"]
    assert found["tiles"]["speed"] >= LEAST_SPEED * found["whole"]["speed"]


def test_a_small_picture_is_done_soon(tmp_path: Path) -> None:
    Image.fromarray(astronaut()[:64, :64]).save(tmp_path / "a.png")
    times = []
    for number in range(3):
        words = ["action=restore", f"input={tmp_path}/a.png", f"output={tmp_path}/{number}.png", "force=true"]
        started = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)
        times.append(time.perf_counter() - started)
    print(f"\na small picture: {min(times):.2f} s")
    assert min(times) <= SOON


def test_a_thousand_small_pictures_cost_little_each(tmp_path: Path) -> None:
    for number in range(1000):
        Image.fromarray(astronaut()[number % 400 :][:48, :48]).save(tmp_path / f"{number}.png")
    begun, of_nets = [0.0], [0.0]

    def begin(*_: object) -> None:
        begun[0] = time.perf_counter()

    def end(*_: object) -> None:
        of_nets[0] += time.perf_counter() - begun[0]

    nets = [named(name).net for name in ("denoise_gray", "denoise_color", "jpeg_color")]
    handles = [net.register_forward_pre_hook(begin) for net in nets] + [net.register_forward_hook(end) for net in nets]
    started = time.perf_counter()
    with redirect_stdout(StringIO()):
        restore_all(jobs([str(tmp_path)], str(tmp_path / "out"), False, None), Wishes(), Writing())
    whole = time.perf_counter() - started
    for handle in handles:
        handle.remove()
    print(f"\n1,000 pictures of 48x48 pixels: {whole:.1f} ms each, of which the nets {of_nets[0]:.1f}")
    assert whole - of_nets[0] <= MOST_OVERHEAD
