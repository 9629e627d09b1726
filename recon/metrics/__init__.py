"""What an evaluation measures; plain torch, so `from recon import metrics` serves a notebook."""

from recon.metrics.classes import classification, confusion, predicted
from recon.metrics.images import mse, psnr, ssim

__all__ = ["classification", "confusion", "mse", "predicted", "psnr", "ssim"]
