"""Image quality and classification scores; plain torch, so `from recon import metrics` works in a notebook."""

from recon.metrics.classes import classification, confusion, predicted
from recon.metrics.images import mse, psnr, ssim

__all__ = ["classification", "confusion", "mse", "predicted", "psnr", "ssim"]
