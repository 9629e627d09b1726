"""Nets in float32 and bfloat16, plain and `channels_last`: megapixels per CPU second on one thread, and the ratios.

The defaults of `conf/accelerator` follow from it. `make bench` prints the table.
"""

import copy
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from recon.config.conf import read_choice
from recon.config.construct import construct

pytestmark = pytest.mark.bench
ROUNDS = 6
FORMS = {"float32": (False, False), "channels_last": (True, False), "bfloat16": (False, True), "both": (True, True)}
# Channels, side and number of images.
NETS = {
    "dru": (3, 96, 8), "dncnn": (1, 96, 1), "ffdnet": (1, 96, 8), "unet": (1, 32, 64), "gated_unet": (1, 32, 32),
    "nafnet": (3, 64, 8), "edsr": (3, 48, 4), "spatial_autoencoder": (3, 32, 32), "lenet": (1, 28, 64),
    "cnn": (1, 28, 64), "resnet18": (3, 32, 16), "speednet": (3, 32, 64),
}  # fmt: skip


def seconds(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """CPU seconds of each, in turns: the median of all rounds but the first."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(1 + ROUNDS):
        for name, do in work.items():
            started = time.process_time()
            do()
            found[name].append(time.process_time() - started)
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def evaluation(net: nn.Module, images: torch.Tensor, half: bool) -> Callable[[], None]:
    def do() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            net.eval()(images)

    return do


def training(net: nn.Module, images: torch.Tensor, half: bool) -> Callable[[], None]:
    def do() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            result = net.train()(images)
        result.float().square().mean().backward()
        net.zero_grad()

    return do


@pytest.mark.parametrize("name", NETS)
def test_channels_last_is_as_fast_as_any_form_of_float32(name: str) -> None:
    channels, side, count = NETS[name]
    facts = {"channels": channels, "in_channels": channels, "out_channels": channels, "image_size": (side, side),
             "num_classes": 10, "scale": 1}  # fmt: skip
    net = construct(read_choice("model/net", name), "model.net", facts)
    nets = {False: net, True: copy.deepcopy(net).to(memory_format=torch.channels_last)}
    images = torch.rand(count, channels, side, side)
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for what in (evaluation, training):
        took = seconds(
            {form: what(nets[last], images, half) for form, (last, half) in FORMS.items() if native or not half}
        )
        speed = count * side * side / 1e6 / took["float32"]
        ratios = ", ".join(f"{form} {took['float32'] / each:.2f}" for form, each in took.items() if form != "float32")
        print(f"\n{name}, {what.__name__}: {speed:.2f} Mpx per CPU second; {ratios}", end="")
        assert took["channels_last"] <= took["float32"] / 0.95
        if native:
            assert took["both"] <= took["float32"]
