"""Plain `torch.nn.Module` networks, one file per architecture; none knows of Lightning or Hydra.

Each takes the size and number of its images' channels as `channels` and, where it is built for one size, `image_size`;
all defaults but these are those of `conf/model/net/`.
"""

from recon.nets.autoencoder import ConvAutoencoder, DenseAutoencoder
from recon.nets.cnn import CNN
from recon.nets.cvanet import CVANet
from recon.nets.dcgan import DCGAN, Discriminator, Generator
from recon.nets.dncnn import DnCNN
from recon.nets.edsr import EDSR
from recon.nets.lenet import LeNet
from recon.nets.resnet import ResNet18
from recon.nets.unet import UNet
from recon.nets.vae import VAE

__all__ = [
    "CNN",
    "DCGAN",
    "EDSR",
    "VAE",
    "CVANet",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "Discriminator",
    "DnCNN",
    "Generator",
    "LeNet",
    "ResNet18",
    "UNet",
]
