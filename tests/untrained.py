"""Weights of small nets that nobody trained, for what does not depend on how good they are."""

from pathlib import Path

import torch

from recon.nets import DRU, EDSR
from recon.restore.weights import About, Purpose, save_weights


def about(purpose: Purpose, channels: int, scale: int = 1) -> About:
    in_channels = channels + (purpose == "inpaint")
    net = {"_target_": "recon.nets.dru.DRU", "widths": [8, 16], "blocks": 1, "unshuffle": 2}
    if scale > 1:
        net = {"_target_": "recon.nets.edsr.EDSR", "blocks": 1, "width": 8, "residual_scale": 1.0}
    facts = {"channels": channels, "in_channels": in_channels, "scale": scale, "image_size": [48, 48], "num_classes": 0}
    radius, stride = (25, 4) if scale == 1 else (6, 1)
    damage: dict[str, object] = {"_target_": "recon.degradations.noise.GaussianNoise", "sigma": 0.1}
    if scale > 1:
        damage = {"_target_": "recon.degradations.resample.Downsample", "scale": scale, "method": "bicubic",
                  "upsample": None}  # fmt: skip
    elif purpose == "inpaint":
        damage = {"_target_": "recon.degradations.missing.MissingPixels", "fraction": 0.5}
    return About(
        purpose,
        net,
        facts,
        False,
        radius,
        stride,
        {"degradation": damage, "seed": 0},
        {"photos, noise": {"images": 2, "psnr": 30.0}},
    )


def write(folder: Path, purpose: Purpose, channels: int, scale: int) -> str:
    """Write a file of weights for a purpose and a number of channels, unless it is there."""
    path = folder / f"{purpose}_{channels}_{scale}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        what = about(purpose, channels, scale)
        settings = {name: value for name, value in what.net.items() if name != "_target_"}
        kinds = {"in_channels": what.facts["in_channels"], "channels": channels}
        net = EDSR(**kinds, scale=scale, **settings) if scale > 1 else DRU(**kinds, **settings)
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        save_weights(path, what, net.state_dict())
    return str(path)
