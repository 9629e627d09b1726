"""Classical methods, to compare trained nets with; scikit-image does most of the work."""

from recon.baselines.base import Method
from recon.baselines.deblurring import RichardsonLucy, Wiener
from recon.baselines.denoising import BM3D, Bilateral, Median, NonLocalMeans, TotalVariation, Wavelet
from recon.baselines.filling import Bicubic, Biharmonic, MeanFill, Unchanged

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (
        Unchanged, Median, Bilateral, NonLocalMeans, Wavelet, TotalVariation, BM3D, Wiener, RichardsonLucy, Bicubic,
        Biharmonic, MeanFill,
    )
}  # fmt: skip

__all__ = ["METHODS", "Method"]
