import importlib
import inspect
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from skimage.data import astronaut
from torch import Tensor, nn

from recon.errors import InputError
from recon.keyed import keys, normal
from recon.nets.autoencoder import DenseAutoencoder
from recon.nets.cnn import CNN
from recon.nets.cvanet import CVANet
from recon.nets.dcgan import DCGAN, Discriminator, Generator
from recon.nets.dncnn import DnCNN
from recon.nets.dru import DRU
from recon.nets.edsr import EDSR
from recon.nets.ffdnet import FFDNet
from recon.nets.gated_unet import GatedUNet
from recon.nets.nafnet import NAFNet
from recon.nets.receptive import receptive_radius
from recon.nets.resgan import ResGAN
from recon.nets.speednet import SpeedNet
from recon.nets.unet import UNet
from recon.nets.vae import VAE

ROOT = Path(__file__).parents[2]
NETS = sorted(path.stem for path in (ROOT / "conf/model/net").glob("*.yaml"))
CLASSES = 10
GANS = (DCGAN, ResGAN)


def build(name: str, channels: int, size: tuple[int, int], **changes: Any) -> nn.Module:
    """The net of conf/model/net/`name`.yaml, with the facts of a task that its signature asks for."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/model/net/{name}.yaml"))
    module, _, cls = config.pop("_target_").rpartition(".")
    target = getattr(importlib.import_module(module), cls)
    # One channel more than the image has, as inpainting passes the mask.
    facts = {"channels": channels, "in_channels": channels + 1, "image_size": size, "num_classes": CLASSES, "scale": 1}
    asked = inspect.signature(target).parameters
    torch.manual_seed(0)
    net: nn.Module = target(**{key: facts[key] for key in facts if key in asked} | config | changes)
    return net


def batch(net: nn.Module, channels: int, size: tuple[int, int], count: int) -> tuple[Tensor, ...]:
    """Random inputs of `forward`, as its signature wants them."""
    image_channels = channels + ("in_channels" in inspect.signature(type(net)).parameters)
    inputs = {
        "x": torch.rand(count, image_channels, *size),
        "image": torch.rand(count, channels, *size),
        "z": torch.randn(count, int(getattr(net, "latent_dim", 1))),
        "label": torch.arange(count) % CLASSES,
        "time": torch.linspace(0.1, 0.9, count),
    }
    return tuple(inputs[name] for name in inspect.signature(net.forward).parameters)


def parts(net: nn.Module) -> list[nn.Module]:
    """The nets to call: a GAN's forward leaves out its discriminator."""
    return [net, net.discriminator] if isinstance(net, GANS) else [net]


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (37, 53)])
@pytest.mark.parametrize("name", NETS)
def test_output_and_gradients(name: str, size: tuple[int, int], channels: int) -> None:
    net = build(name, channels, size)
    for part in parts(net):
        inputs = batch(part, channels, size, 2)
        output = part(*inputs)
        if part is not net:
            assert output.shape == (2,)
        elif type(net).__name__ in ("CNN", "LeNet", "ResNet18", "SpeedNet"):
            assert output.shape == (2, CLASSES)
        else:
            assert output.shape == (2, channels, *size)
        output.square().sum().backward()
    for key, parameter in net.named_parameters():
        if key == "whitening.weight":  # fitted to images, not trained
            assert not parameter.requires_grad
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_whitened_patches_are_uncorrelated_and_of_one_variance() -> None:
    """Of a photograph, by NumPy; each with its negative; a fitted net stays as it is."""
    photograph = torch.from_numpy(astronaut()[:64, :64].copy()).permute(2, 0, 1).float().div(255)
    images = torch.stack([photograph, photograph.flip(2), photograph.flip(1)])
    net: Any = build("speednet", 3, (64, 64))
    net.fit_to(images)
    shown = net.whitening(images).permute(1, 0, 2, 3).flatten(1).detach().double().numpy()
    assert len(shown) == 24
    np.testing.assert_allclose(shown[:12], -shown[12:], atol=1e-4)
    patches = np.lib.stride_tricks.sliding_window_view(images.double().numpy(), (2, 2), axis=(2, 3))
    patches = patches.transpose(1, 4, 5, 0, 2, 3).reshape(12, -1)
    variances = np.linalg.eigvalsh(np.cov(patches))
    expected = variances / (variances + 5e-4 * variances.mean())
    np.testing.assert_allclose(np.cov(shown[:12]), np.diag(expected), atol=1e-3)
    assert expected[-1] > 0.999
    before = net.whitening.weight.clone()
    net.fit_to(images / 2)
    assert torch.equal(net.whitening.weight, before)


def test_a_stride_of_whitened_patches_leaves_some_out() -> None:
    images = torch.rand(4, 3, 33, 20, generator=torch.Generator().manual_seed(0))
    all_patches, some = (SpeedNet(channels=3, image_size=(33, 20), stride=stride) for stride in (1, 2))
    for net in (all_patches, some):
        net.fit_to(images)
    torch.testing.assert_close(some.whitening(images), all_patches.whitening(images)[:, :, ::2, ::2])
    assert some(images).shape == (4, 10)


def test_few_components_are_those_of_the_largest_variance() -> None:
    images = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0)).cumsum(3) / 20
    whole, few = SpeedNet(channels=3, image_size=(20, 20)), SpeedNet(channels=3, image_size=(20, 20), components=5)
    for net in (whole, few):
        net.fit_to(images)
    shown = whole.whitening(images)
    torch.testing.assert_close(few.whitening(images), torch.cat([shown[:, 7:12], shown[:, 19:24]], 1))
    directions = whole.whitening.weight[:12].detach().flatten(1).double()
    assert (directions.norm(dim=1).diff() < 0).all()  # the larger the variance, the smaller the factor
    with pytest.raises(InputError, match=r"components.*12"):
        SpeedNet(channels=3, image_size=(20, 20), components=13)


@pytest.mark.parametrize("trained", [True, False])
def test_whitening_is_fixed_where_its_bias_is_not_trained(trained: bool) -> None:
    net = SpeedNet(channels=1, image_size=(8, 8), widths=(4,), train_bias=trained)
    net(torch.rand(4, 1, 8, 8)).sum().backward()
    assert net.whitening.weight.grad is None
    assert net.whitening.bias is not None
    assert (net.whitening.bias.grad is not None) == trained


@pytest.mark.parametrize("name", NETS)
def test_evaluation_treats_each_image_alone(name: str) -> None:
    net = build(name, 1, (28, 28))
    for part in parts(net):
        part(*batch(part, 1, (28, 28), 4))  # so that batch norm has statistics
        part.eval()
        inputs = batch(part, 1, (28, 28), 3)
        with torch.no_grad():
            together = part(*inputs)
            alone = torch.cat([part(*(each[i : i + 1] for each in inputs)) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
        assert (together[0] - together[1]).abs().max() > 1e-5


@pytest.mark.parametrize("name", NETS)
def test_state_dict_restores_the_net(name: str) -> None:
    net = build(name, 1, (28, 28)).eval()
    inputs = batch(net, 1, (28, 28), 1)
    other = build(name, 1, (28, 28)).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
        assert not torch.equal(other(*inputs), net(*inputs))
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other(*inputs), net(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETS)
def test_too_small_images_are_refused(name: str) -> None:
    def use() -> Tensor:
        net = build(name, 1, (2, 2))
        output: Tensor = net(*batch(net, 1, (2, 2), 1))
        return output

    with pytest.raises(InputError, match=r"needs images of at least \dx\d pixels, not 2x2: use larger"):
        use()


@pytest.mark.parametrize("name", NETS)
def test_the_first_line_describes_the_net(name: str) -> None:
    first = (ROOT / f"conf/model/net/{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 10


@pytest.mark.parametrize("name", NETS)
def test_defaults_are_those_of_the_yaml(name: str) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/model/net/{name}.yaml"))
    cls = getattr(importlib.import_module("recon.nets"), config.pop("_target_").rpartition(".")[2])
    facts = {"channels": 1, "in_channels": None, "image_size": (28, 28), "num_classes": CLASSES, "scale": 1}
    defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    expected = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    assert defaults == {name: fact for name, fact in facts.items() if name in defaults} | expected


@pytest.mark.parametrize("net", [UNet(), DnCNN(depth=3), EDSR(blocks=1), CVANet()], ids=lambda net: type(net).__name__)
def test_a_net_made_by_hand_maps_grey_images_to_grey_images(net: nn.Module) -> None:
    with torch.no_grad():
        assert net(torch.rand(1, 1, 12, 9)).shape == (1, 1, 12, 9)


@pytest.mark.parametrize("name", NETS)
def test_fixed_size_is_declared_and_enforced(name: str) -> None:
    net = build(name, 1, (28, 28)).eval()
    if not net.fixed_size:
        assert net(*batch(net, 1, (29, 31), 1)).shape[0] == 1
    elif not isinstance(net, GANS):
        with pytest.raises(InputError, match="built for images of 28x28 pixels, not 29x31"):
            net(*batch(net, 1, (29, 31), 1))


def test_lenet_on_cifar_is_the_classic() -> None:
    net = build("lenet", 3, (32, 32))
    assert parameters(net) == 62_006
    shapes = [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert shapes == [(6, 3, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def test_keras_classifiers_can_be_built() -> None:
    mnist = CNN(
        channels=1,
        image_size=(28, 28),
        num_classes=10,
        widths=[32, 64],
        padding="valid",
        batch_norm=False,
        dropout=0.0,
        hidden=64,
    )
    assert parameters(mnist) == 121_930  # 320 + 18,496 + 1600·64 + 64 + 650, as Keras counts
    cifar = CNN(
        channels=3,
        image_size=(32, 32),
        num_classes=10,
        widths=[32, 64, 128],
        padding="same",
        batch_norm=False,
        dropout=0.0,
        hidden=512,
    )
    assert parameters(cifar) == 896 + 18_496 + 73_856 + 2048 * 512 + 512 + 5_130


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_least_side_of_valid_convolutions_is_exact(stages: int) -> None:
    least = {1: 4, 2: 8, 3: 18}[stages]
    settings: Any = {"padding": "valid", "widths": [4] * stages}
    build("cnn", 1, (least, least), **settings)(torch.rand(2, 1, least, least))
    with pytest.raises(InputError, match=f"at least {least}x{least} pixels"):
        build("cnn", 1, (least, least - 1), **settings)


def test_other_known_sizes() -> None:
    assert parameters(build("resnet18", 3, (32, 32))) == 11_173_962  # the usual CIFAR ResNet-18
    dncnn = DnCNN(in_channels=1, channels=1, depth=17, width=64, batch_norm=True)
    assert round(parameters(dncnn) / 1e6, 3) == 0.556
    assert parameters(build("unet", 1, (28, 28))) < 500_000


def test_classic_dense_autoencoder_can_be_built() -> None:
    net = DenseAutoencoder(
        channels=1, image_size=(28, 28), hidden=[64, 32], latent_dim=32, activation="relu", code_activation="relu"
    )
    widths = [layer.in_features for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert [*widths, 784] == [784, 64, 32, 32, 32, 64, 784]
    code = net.encode(torch.rand(2, 1, 28, 28))
    assert code.shape == (2, 32)
    assert (code >= 0).all()


@pytest.mark.parametrize("name", ["dense_autoencoder", "conv_autoencoder"])
@pytest.mark.parametrize("size", [(8, 8), (29, 31), (4, 4)])
def test_autoencoders_have_a_vector_code(name: str, size: tuple[int, int]) -> None:
    net: Any = build(name, 3, size, latent_dim=7)
    x = torch.rand(2, 3, *size)
    code = net.encode(x)
    assert code.shape == (2, 7)
    image = net.decode(code)
    assert torch.equal(image, net(x))
    assert image.min() >= 0
    assert image.max() <= 1


def test_vae_decodes_the_mean() -> None:
    net: Any = build("vae", 1, (28, 28))
    assert isinstance(net, VAE)
    x = torch.rand(2, 1, 28, 28)
    mean, log_variance = net.encode(x)
    assert mean.shape == log_variance.shape == (2, net.latent_dim)
    assert torch.equal(net(x), net.decode(mean))


@pytest.mark.parametrize(
    ("side", "widths", "sizes"),
    [
        (28, [256, 128, 64], [4, 7, 14, 28]),
        (28, [128, 64], [7, 14, 28]),
        (8, [128, 64], [4, 4, 8]),
        (64, [128, 64], [16, 32, 64]),
        (29, [128, 64], [8, 15, 29]),
    ],
)
def test_generator_grows_from_4x4(side: int, widths: list[int], sizes: list[int]) -> None:
    net = Generator(channels=1, image_size=(side, side), num_classes=0, latent_dim=5, base=8, widths=widths)
    assert net.sizes == [(size, size) for size in sizes]
    image = net(torch.randn(2, 5), torch.full((2,), -1))
    assert image.shape == (2, 1, side, side)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize("conditional", [True, False])
def test_labels_matter_when_conditional(conditional: bool) -> None:
    net = build("dcgan", 1, (28, 28), conditional=conditional).eval()
    assert isinstance(net, DCGAN)
    z, image = torch.randn(1, net.latent_dim), torch.rand(1, 1, 28, 28)
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert torch.equal(net(z, zero), net(z, one)) is not conditional
    assert torch.equal(net.discriminator(image, zero), net.discriminator(image, one)) is not conditional


@pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
def test_discriminator_judges_any_size_without_labels(norm: Any) -> None:
    net = Discriminator(channels=3, num_classes=0, widths=[8, 16], dropout=0.0, norm=norm)
    for size in [(8, 8), (64, 64), (43, 61)]:
        logit = net(torch.rand(2, 3, *size), torch.full((2,), -1))
        assert logit.shape == (2,)
        logit.sum().backward()


@pytest.mark.parametrize("residual", [True, False])
def test_restoring_nets_add_to_the_image_alone(residual: bool) -> None:
    net = UNet(in_channels=4, channels=3, widths=[4, 8, 8], batch_norm=False, residual=residual)
    for parameter in net.last.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(1, 4, 43, 61)
    assert torch.equal(net(x), x[:, :3] if residual else torch.zeros(1, 3, 43, 61))


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("cnn", {"padding": "reflect"}, "padding 'reflect'"),
        ("dcgan", {"norm": "layer"}, "norm 'layer'"),
        ("vae", {"activation": "elu"}, "activation 'elu'"),
    ],
)
def test_unknown_choices_are_named(name: str, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        build(name, 1, (28, 28), **changes)


@pytest.mark.parametrize("name", ["lenet", "cnn", "resnet18"])
def test_classifiers_need_labels(name: str) -> None:
    with pytest.raises(InputError, match="choose a task= with labels"):
        build(name, 1, (28, 28), num_classes=0)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3, 31.28),  # cameraman, house and peppers, as measured here with this draw; others differ by 0.05
        pytest.param(12, 30.44, marks=pytest.mark.slow),
    ],
)
def test_dncnn_with_the_authors_weights_reaches_the_published_psnr(count: int, expected: float) -> None:
    """Set12 at sigma 25: noise not clipped, output rounded to 8 bit, mean of the images' PSNR in dB."""
    weights = ROOT.parent / "shared/reference/dncnn_s25.npz"
    folder = Path(os.environ.get("RECON_DATA", ROOT.parent / "shared/data")) / "set12"
    images = sorted(folder.glob("*.png"))[:count]
    if not weights.exists() or len(images) < count:
        pytest.skip("the authors' weights or Set12 are not on this machine")
    net = DnCNN(in_channels=1, channels=1, depth=17, width=64, batch_norm=False).eval()
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 17
    arrays = np.load(weights)
    values = []
    with torch.no_grad():
        for place, layer in enumerate(convolutions):
            layer.weight.copy_(torch.from_numpy(arrays[f"w{place}"]))
            assert layer.bias is not None
            layer.bias.copy_(torch.from_numpy(arrays[f"b{place}"]))
        for place, path in enumerate(images):
            clean = torch.from_numpy(np.array(Image.open(path).convert("L"))).float()[None, None] / 255
            noise = normal(keys(0, "noise", 0, torch.tensor([place])), tuple(clean.shape[1:]))
            restored = (net(clean + 25 / 255 * noise).clamp(0, 1) * 255).round() / 255
            values.append(-10 * (restored - clean).square().mean().log10().item())
    assert np.mean(values) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("net", "channels", "radius"),
    [(DnCNN(width=2), 1, 17), (DnCNN(channels=3, depth=4, width=2), 3, 4), (FFDNet(width=2), 1, 31),
     (DRU(widths=(2, 2, 2)), 1, 91), (GatedUNet(in_channels=2, widths=(2, 2, 2)), 2, 23),
     (UNet(widths=(2, 2, 2)), 1, 23), (NAFNet(width=2, encoder=(1,), decoder=(1,)), 1, None)],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)  # fmt: skip
def test_how_far_a_net_looks(net: nn.Module, channels: int, radius: int | None) -> None:
    assert receptive_radius(net, channels) == radius
    told = re.search(r"receptive\s+radius\s+(\d+) pixels", type(net).__doc__ or "")
    assert told is None or int(told[1]) == radius


def test_dru_fills_holes_smoothly_before_it_begins() -> None:
    """Of a net that changes nothing what is left is the filling: known pixels, a constant continued, grey far away."""
    net = DRU(in_channels=4, channels=3, widths=(2, 2), fill=3)
    torch.nn.init.zeros_(net.last.weight)
    image = torch.full((1, 3, 37, 50), 0.3)
    known = (torch.rand(1, 1, 37, 50, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    with torch.no_grad():
        torch.testing.assert_close(net(torch.cat([image * known, known], 1)), image, rtol=0, atol=1e-4)
        nothing = net(torch.zeros(1, 4, 37, 50))
    torch.testing.assert_close(nothing, torch.full_like(image, 0.5))
    with pytest.raises(InputError, match="fill"):
        DRU(channels=3, fill=3)
