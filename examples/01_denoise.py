"""Train a small U-Net to denoise digits in plain PyTorch: no Hydra, no Lightning."""

import torch
from sklearn.datasets import load_digits

from recon import degradations, keyed, losses, metrics
from recon.nets import UNet

torch.manual_seed(0)
digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
train, test = digits[:1400], digits[1400:]
noise = degradations.GaussianNoise(sigma=0.3)
net = UNet(channels=1, widths=[16, 32])
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
loss_of = losses.Charbonnier(epsilon=1e-3)


def noisy(clean: torch.Tensor, epoch: int, index: torch.Tensor) -> torch.Tensor:
    """The noise of an image is a function of (seed, epoch, index), whatever the batch."""
    return noise(clean, keyed.keys(seed=0, stream="denoise", epoch=epoch, index=index)).image


for epoch in range(8):
    for index in torch.randperm(len(train)).split(64):
        clean = train[index]
        loss = losses.per_image(loss_of(net(noisy(clean, epoch + 1, index)), clean)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

net.eval()
damaged = noisy(test, 0, torch.arange(len(test)))
with torch.inference_mode():
    restored = net(damaged)
before, after = metrics.psnr(damaged, test).mean(), metrics.psnr(restored, test).mean()
print(f"PSNR {before:.2f} dB before, {after:.2f} dB after, over {len(test)} digits")
assert after > before + 3
