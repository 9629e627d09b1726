"""Plain `torch.nn.Module` networks, one file per architecture; none knows of Lightning or Hydra.

Each takes the number of channels of its images as `channels` and, where it is built for one size (`fixed_size`), that
size as `image_size`, (H,W) in pixels; all other defaults are those of `conf/model/net/`. All raise InputError for
arguments out of range, for images too small for them or of another size than they were built for, and where a
classifier has no classes.
"""

from recon.nets.autoencoder import ConvAutoencoder, DenseAutoencoder
from recon.nets.cnn import CNN
from recon.nets.cvanet import CVANet
from recon.nets.dcgan import DCGAN, Discriminator, Generator
from recon.nets.dncnn import DnCNN
from recon.nets.dru import DRU
from recon.nets.edsr import EDSR
from recon.nets.ffdnet import FFDNet
from recon.nets.gated_unet import GatedUNet
from recon.nets.lenet import LeNet
from recon.nets.nafnet import NAFNet
from recon.nets.quantisers import FSQ, VQ, Quantiser, Scalar
from recon.nets.resgan import ResGAN
from recon.nets.resnet import ResNet18
from recon.nets.spatial_autoencoder import SpatialAutoencoder
from recon.nets.speednet import SpeedNet
from recon.nets.time_unet import TimeUNet
from recon.nets.unet import UNet
from recon.nets.vae import VAE

__all__ = [
    "CNN", "DCGAN", "DRU", "EDSR", "FSQ", "VAE", "VQ", "CVANet", "ConvAutoencoder", "DenseAutoencoder",
    "Discriminator", "DnCNN", "FFDNet", "GatedUNet", "Generator", "LeNet", "NAFNet", "Quantiser", "ResGAN", "ResNet18",
    "Scalar", "SpatialAutoencoder", "SpeedNet", "TimeUNet", "UNet",
]  # fmt: skip
