"""What training minimises: pixel losses, adversarial losses, losses without clean images and penalties, in plain torch.

All are computed in float32, or in float64 for float64 images: differences of nearly equal half-precision numbers would
lose their digits, and sums over images would overflow.
"""

from recon.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    Relativistic,
    Wasserstein,
    gradient_penalty,
    gradient_square,
)
from recon.losses.blind import BlindLoss, Neighbor2Neighbor, Noise2Void, SureLoss
from recon.losses.classes import cross_entropy
from recon.losses.features import Perceptual, Texture
from recon.losses.pixel import (
    BCE,
    L1,
    MSE,
    Charbonnier,
    DiscretisedLogistic,
    Gaussian,
    PixelLoss,
    Sum,
    hole_weighted,
    kl_to_standard_normal,
    l1_penalty,
    per_image,
    wide,
)
from recon.losses.structure import SSIM, Edge, Frequency
from recon.losses.teaching import soft_targets

__all__ = [
    "BCE", "L1", "MSE", "SSIM", "AdversarialLoss", "BlindLoss", "Charbonnier", "DiscretisedLogistic", "Edge",
    "Frequency", "Gaussian", "Hinge", "LeastSquares", "Minimax", "Neighbor2Neighbor", "Noise2Void", "Perceptual",
    "PixelLoss", "Relativistic", "Sum", "SureLoss", "Texture", "Wasserstein", "cross_entropy", "gradient_penalty",
    "gradient_square", "hole_weighted", "kl_to_standard_normal", "l1_penalty", "per_image", "soft_targets", "wide",
]  # fmt: skip
