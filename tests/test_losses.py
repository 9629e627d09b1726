"""Losses against closed forms, torch's own functions and finite differences."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from recon.errors import InputError
from recon.losses import (
    BCE,
    L1,
    MSE,
    SSIM,
    Charbonnier,
    Edge,
    Frequency,
    Hinge,
    LeastSquares,
    Minimax,
    Perceptual,
    Relativistic,
    Sum,
    Texture,
    Wasserstein,
    gradient_penalty,
    gradient_square,
    hole_weighted,
    kl_to_standard_normal,
    l1_penalty,
    per_image,
)
from recon.metrics import ssim

PIXEL_LOSSES = {"l1": L1(), "mse": MSE(), "charbonnier": Charbonnier(1e-3), "bce": BCE(), "ssim": SSIM(),
                "edge": Edge(), "frequency": Frequency()}  # fmt: skip
ADVERSARIAL = {
    "minimax": Minimax(), "hinge": Hinge(), "least_squares": LeastSquares(), "wasserstein": Wasserstein(),
    "relativistic": Relativistic(),
}  # fmt: skip


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 5, 7, generator=generator), torch.rand(2, 3, 5, 7, generator=generator)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(6, generator=generator), 2 * torch.randn(6, generator=generator)


class TestPixelLoss:
    @pytest.mark.parametrize(
        ("name", "reference"), [("l1", F.l1_loss), ("mse", F.mse_loss), ("bce", F.binary_cross_entropy)]
    )
    def test_agrees_with_torch(self, images, name, reference):
        torch.testing.assert_close(PIXEL_LOSSES[name](*images), reference(*images, reduction="none"))

    def test_charbonnier_is_a_smooth_l1(self, images):
        loss = PIXEL_LOSSES["charbonnier"]
        image, clean = images
        assert ((loss(image, clean) - (image - clean).abs()) <= 1e-3).all()
        assert loss(clean, clean).flatten()[0].item() == pytest.approx(1e-3)
        at_zero = clean.clone().requires_grad_()
        loss(at_zero, clean).sum().backward()
        assert at_zero.grad is not None
        assert at_zero.grad.abs().max() == 0

    @pytest.mark.parametrize("name", PIXEL_LOSSES)
    def test_gradient(self, images, name):
        image, clean = (i[:1, :1].double() for i in images)
        assert torch.autograd.gradcheck(lambda x: PIXEL_LOSSES[name](x, clean), image.requires_grad_())

    @pytest.mark.parametrize("name", PIXEL_LOSSES)
    def test_takes_the_bfloat16_image_of_an_autocast_net(self, images, name):
        image, clean = images
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = PIXEL_LOSSES[name](image.bfloat16(), clean)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, PIXEL_LOSSES[name](image.bfloat16().float(), clean))

    def test_epsilon_is_the_width_of_the_smooth_part(self):
        zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        assert Charbonnier(3.0)(4 * one, zero).item() == 5
        with pytest.raises(InputError, match="epsilon: 0"):
            Charbonnier(0.0)


class TestStructure:
    def test_ssim_is_one_minus_the_metric(self, images):
        for image, clean in (images, [torch.rand(2, 1, 23, 17) for _ in range(2)]):
            torch.testing.assert_close(SSIM()(image, clean), 1 - ssim(image, clean), atol=1e-5, rtol=0)

    def test_edges_agree_with_scipy(self, images):
        planes = (images[0] - images[1]).double().numpy().reshape(6, 5, 7)
        expected = [sum(abs(ndimage.sobel(plane, axis, mode="nearest")) / 8 for axis in (0, 1)) / 2 for plane in planes]
        np.testing.assert_allclose(Edge()(*images).reshape(6, 5, 7), expected, atol=1e-6)
        assert Edge()(images[0] + 0.5, images[0]).abs().max() < 1e-6, "no edge is where all pixels differ alike"

    def test_frequencies_agree_with_numpy(self, images):
        spectra = [abs(np.fft.fft2(x.double().numpy(), norm="ortho")) for x in images]
        np.testing.assert_allclose(Frequency()(*images), abs(spectra[0] - spectra[1]), atol=1e-5)
        assert Frequency()(images[0].roll((2, 3), (2, 3)), images[0]).max() < 1e-5, "a shift changes no magnitude"


class TestFeatures:
    """Losses of what a classifier sees, here one of two known convolutions."""

    @pytest.fixture
    def net(self):
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
        for number, weight in enumerate(net.parameters()):
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(number))
        return net.double()

    @pytest.mark.parametrize("kind", [Perceptual, Texture])
    def test_is_that_of_its_definition(self, images, net, kind):
        image, clean = (x.double() for x in images)
        first = [F.conv2d(x, net[0].weight, net[0].bias) for x in (image, clean)]
        second = [F.conv2d(x.relu(), net[2].weight, net[2].bias) for x in first]
        expected = torch.zeros(2, dtype=torch.float64)
        for one, other in (first, second):
            if kind is Texture:
                one, other = (torch.einsum("bihw,bjhw->bij", x, x)[..., None] / x[0, 0].numel() for x in (one, other))
            expected += 0.5 * (one - other).square().flatten(1).mean(1)
        torch.testing.assert_close(kind(net)(image, clean), expected)
        assert kind(net)(clean, clean).abs().max() == 0

    @pytest.mark.parametrize("kind", [Perceptual, Texture])
    def test_gradient(self, images, net, kind):
        image, clean = (i[:1].double() for i in images)
        assert torch.autograd.gradcheck(lambda x: kind(net)(x, clean), image.requires_grad_())
        assert all(weight.grad is None for weight in net.parameters())

    def test_texture_does_not_see_where_things_are(self, images, net):
        whole = images[0].double().repeat(1, 1, 8, 8)
        moved = whole.roll((2, 3), (2, 3))
        assert Texture(net)(moved, whole).max() < 0.1 * Perceptual(net)(moved, whole).min()

    def test_a_net_without_convolutions_is_refused(self, net):
        with pytest.raises(InputError, match=r"features: .* no convolution"):
            Perceptual(torch.nn.Linear(2, 2))

    def test_a_run_of_a_classifier_is_given_by_its_name(self, compose, typed):
        from conftest import QUICK

        words = ("task=digits", "hydra.run.dir=outputs/day/seeing", "model=classifier", *QUICK)
        assert typed(*words, "model/net=cnn")[0] == 0
        restoring = ("task=digits", "model=restoration", "model.net.widths=[4]", "model/loss=perceptual", *QUICK)
        status, _, errors = typed(*restoring, "model.loss.features=seeing", "hydra.run.dir=outputs/day/restoring")
        assert status == 0, errors
        assert "model.loss.features" in typed.refused(*restoring, "model.loss.features=restoring")
        assert "model.loss.features" in typed.refused(*restoring)


class TestSum:
    def test_is_the_weighted_sum_of_each_element(self, images):
        expected = 0.25 * L1()(*images) + 2 * MSE()(*images)
        torch.testing.assert_close(Sum([L1(), MSE()], [0.25, 2.0])(*images), expected)

    def test_a_term_of_whole_images_makes_it_one_of_whole_images(self, images):
        class Whole(L1):
            def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
                return super().__call__(image, clean).amax((1, 2, 3))

        loss = Sum([Whole(), MSE()], [1.0, 0.5])(*images)
        torch.testing.assert_close(loss, Whole()(*images) + 0.5 * per_image(MSE()(*images)))
        assert torch.equal(hole_weighted(loss, torch.ones(2, 1, 5, 7), 6.0), loss)

    @pytest.mark.parametrize(("terms", "weights"), [([], []), ([L1()], []), ([L1()], [1.0, 2.0]), ([L1()], [-1.0])])
    def test_wrong_weights_are_refused(self, terms, weights):
        with pytest.raises(InputError, match="weights: "):
            Sum(terms, weights)


class TestHoleWeighted:
    def test_agrees_with_a_weighted_mean_of_each_image(self):
        loss = torch.arange(1.0, 9.0).view(1, 2, 2, 2).repeat(2, 1, 1, 1)
        mask = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]], [[[0.0, 0.0], [1.0, 1.0]]]])
        first = (1 + 3 + 4 + 5 + 7 + 8 + 6 * (2 + 6)) / (6 + 6 * 2)
        second = (3 + 4 + 7 + 8 + 6 * (1 + 2 + 5 + 6)) / (4 + 6 * 4)
        assert hole_weighted(loss, mask, 6.0).tolist() == pytest.approx([first, second])

    def test_weight_one_is_the_plain_mean(self, images):
        loss = images[0]
        mask = (images[1][:, :1] > 0.5).float()
        torch.testing.assert_close(hole_weighted(loss, mask, 1.0), loss.mean((1, 2, 3)))

    def test_weight_zero_leaves_the_hole_out(self, images):
        mask = torch.ones(2, 1, 5, 7)
        mask[..., 2:] = 0
        torch.testing.assert_close(hole_weighted(images[0], mask, 0.0), images[0][..., :2].mean((1, 2, 3)))


def test_kl_agrees_with_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 4, 3, 3, generator=generator)
    ours = kl_to_standard_normal(mean, log_variance)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    theirs = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(ours, theirs.sum((1, 2, 3)))
    assert kl_to_standard_normal(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0, 0]


class TestAdversarial:
    def test_minimax_is_binary_cross_entropy(self, logits):
        real, fake = logits
        loss = ADVERSARIAL["minimax"]

        def cross_entropy(logit: Tensor, target: float) -> Tensor:
            return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target), reduction="none")

        expected = cross_entropy(real, 1.0) + cross_entropy(fake, 0.0)
        torch.testing.assert_close(loss.discriminator(real, fake), expected)
        torch.testing.assert_close(loss.generator(fake), cross_entropy(fake, 1.0))

    def test_hinge_stops_at_the_margin(self):
        loss = ADVERSARIAL["hinge"]
        real, fake = torch.tensor([3.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
        assert loss.discriminator(real, fake).tolist() == [0, 1, 4]
        assert loss.generator(fake).tolist() == [2, 0.5, -1]

    def test_least_squares_has_targets_one_and_zero(self, logits):
        real, fake = logits
        loss = ADVERSARIAL["least_squares"]
        one, zero = torch.ones(6), torch.zeros(6)
        expected = (F.mse_loss(real, one, reduction="none") + F.mse_loss(fake, zero, reduction="none")) / 2
        torch.testing.assert_close(loss.discriminator(real, fake), expected)
        torch.testing.assert_close(loss.generator(fake), F.mse_loss(fake, one, reduction="none") / 2)

    def test_wasserstein_is_the_difference(self):
        loss = ADVERSARIAL["wasserstein"]
        real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 7.0])
        assert loss.discriminator(real, fake).tolist() == [-2, 2]
        assert loss.generator(fake).tolist() == [-1, -7]

    @pytest.mark.parametrize("kind", ADVERSARIAL)
    def test_the_players_pull_against_each_other(self, kind):
        loss = ADVERSARIAL[kind]
        real, fake = torch.zeros(4, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)
        real_slope, fake_slope = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
        assert (real_slope < 0).all()
        assert (fake_slope > 0).all()
        (slope,) = torch.autograd.grad(loss.generator(fake, real).sum(), fake)
        assert (slope < 0).all()

    def test_smoothing_moves_the_target_of_clean_images(self, logits):
        real, fake = logits
        targets = torch.full_like(real, 0.9)
        expected = F.binary_cross_entropy_with_logits(real, targets, reduction="none") + F.softplus(fake)
        torch.testing.assert_close(Minimax(smoothing=0.1).discriminator(real, fake), expected)

    def test_the_saturating_form_vanishes_where_the_generator_loses(self):
        fake = torch.tensor([-20.0], requires_grad=True)
        slopes = [
            torch.autograd.grad(Minimax(saturating=form).generator(fake).sum(), fake)[0].item()
            for form in (True, False)
        ]
        assert abs(slopes[0]) < 1e-8
        assert slopes[1] == pytest.approx(-1)

    def test_pairing_is_antisymmetric(self, logits):
        loss = ADVERSARIAL["relativistic"]
        torch.testing.assert_close(loss.generator(*logits), loss.discriminator(*logits))
        torch.testing.assert_close(
            loss.discriminator(*logits) - loss.discriminator(*logits[::-1]), logits[1] - logits[0]
        )


def test_the_squared_gradient_of_a_quadratic_critic_and_its_own_gradient():
    """Of w·|x|² the gradient at x is 2wx; of the squared norm 4w²|x|² that in w is 8w|x|²."""
    image = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor(1.5, requires_grad=True)
    found = gradient_square(lambda x: weight * x.square().sum((1, 2, 3)), image)
    energy = image.square().sum((1, 2, 3))
    torch.testing.assert_close(found, 9 * energy)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), weight)[0], 12 * energy.sum())


class TestGradientPenalty:
    def test_of_a_linear_critic(self, images):
        weight = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
        penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), *images, torch.tensor([0.3, 0.9]))
        norm = weight.norm()
        torch.testing.assert_close(penalty, (norm - 1) ** 2)
        (slope,) = torch.autograd.grad(penalty, weight, retain_graph=True)
        torch.testing.assert_close(slope, (2 * (norm - 1) * weight / norm).detach())

    def test_is_taken_at_the_mixed_image(self):
        """For the critic sum(x³)/3 the gradient is x², so the penalty tells the point."""
        real, fake = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 1.0)
        mix = torch.tensor([0.0, 1.0])
        penalty = gradient_penalty(lambda x: (x**3 / 3).sum((1, 2, 3)), real, fake, mix)
        assert penalty.item() == pytest.approx(((1 - 1) ** 2 + (9 - 1) ** 2) / 2)

    def test_agrees_with_finite_differences(self):
        torch.manual_seed(0)
        critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        critic.double()
        real, fake = torch.rand(2, 1, 3, 2, 2).double()
        between, step = (0.25 * real + 0.75 * fake), 1e-6
        steps = step * torch.eye(12).double().view(12, 3, 2, 2)
        slope = (critic(between + steps) - critic(between - steps)) / (2 * step)
        expected = (slope.norm() - 1) ** 2
        penalty = gradient_penalty(critic, real, fake, torch.tensor([0.25], dtype=torch.float64))
        torch.testing.assert_close(penalty, expected, rtol=1e-6, atol=1e-9)

    def test_of_a_flat_critic_has_a_finite_gradient(self, images):
        weight = torch.zeros(3, 5, 7, requires_grad=True)
        penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), *images, torch.tensor([0.3, 0.9]))
        penalty.backward()
        assert penalty.item() == 1
        assert weight.grad is not None
        assert weight.grad.isfinite().all()

    def test_does_not_reach_the_generator(self, images):
        real, fake = images
        fake.requires_grad_()
        weight = torch.ones(3, 5, 7, requires_grad=True)
        gradient_penalty(lambda x: (x**2 * weight).sum((1, 2, 3)), real, fake, torch.tensor([0.3, 0.9])).backward()
        assert fake.grad is None
        assert weight.grad is not None


def test_l1_penalty():
    weights = [torch.tensor([[1.0, -2.0]], requires_grad=True), torch.tensor([-3.0], requires_grad=True)]
    penalty = l1_penalty(iter(weights))
    assert penalty.item() == 6
    slopes = torch.autograd.grad(penalty, weights)
    assert slopes[0].tolist() == [[1, -1]]
    assert slopes[1].tolist() == [-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
class TestHalfPrecision:
    """A loss of half-precision numbers is that of the same numbers in float32, whose gradient it gives."""

    def test_every_loss_is_float32(self, images, logits, dtype):
        image, clean = images[0].to(dtype), images[1]
        for name in ("l1", "mse", "charbonnier", "bce"):
            for other in (clean, clean.to(dtype)):
                found = PIXEL_LOSSES[name](image, other)
                assert found.dtype == torch.float32
                assert torch.equal(found, PIXEL_LOSSES[name](image.float(), other.float()))
        real, fake = (logit.to(dtype) for logit in logits)
        for loss in ADVERSARIAL.values():
            assert torch.equal(loss.discriminator(real, fake), loss.discriminator(real.float(), fake.float()))
            assert torch.equal(loss.generator(fake, real), loss.generator(fake.float(), real.float()))

    def test_the_divergence_keeps_its_digits_near_the_prior(self, dtype):
        mean, log_variance = (0.03 * torch.randn(2, 500, 16, generator=torch.Generator().manual_seed(0))).to(dtype)
        found, m, v = kl_to_standard_normal(mean, log_variance), mean.double(), log_variance.double()
        truth = 0.5 * (v.expm1() - v + m.square()).sum(1)
        torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=0)
        assert found.min() > 0

    def test_sums_do_not_overflow(self, dtype):
        weight = torch.full((300, 300), 2.0, dtype=dtype, requires_grad=True)
        penalty = l1_penalty([weight])
        assert penalty == 180_000
        penalty.backward()
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.ones_like(weight))
        assert hole_weighted(torch.full((1, 1, 300, 300), 2.0, dtype=dtype), torch.ones(1, 1, 300, 300), 6.0) == 2
