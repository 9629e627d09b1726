"""Image quality and classification scores; plain torch, so `from recon import metrics` works in a notebook."""

from recon.metrics.classes import classification, confusion, predicted
from recon.metrics.images import decibels, mse, psnr, ssim

__all__ = ["classification", "confusion", "decibels", "mse", "predicted", "psnr", "ssim"]
