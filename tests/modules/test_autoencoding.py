"""Autoencoders: penalties of the code against closed forms, quantised codes, and what a test says of their bits."""

import json
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Compose, Typed
from test_modules import built, fitted
from torch import Tensor, nn

from recon import build, losses
from recon.actions.train import train
from recon.codec.tables import TOTAL, bits, frequencies
from recon.modules.autoencoding import AutoencodingModule
from recon.pair import Pair

QUANTISERS = {
    "fsq": "model.quantiser.levels=4", "vq": "model.quantiser.size=32", "scalar": "model.quantiser.levels=31",
}  # fmt: skip


class Linear(nn.Module):
    """A linear encoder to a code of three numbers."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 3), nn.Linear(3, 16)

    def encode(self, x: Tensor) -> Tensor:
        return self.down(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return self.up(z).view(-1, 1, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def test_the_contraction_is_the_squared_norm_of_the_jacobian(compose: Compose) -> None:
    """Of a linear encoder it is that of its weights, as the mean over directions."""
    config = compose("model=autoencoder", "task=digits")
    options = built(config)[0].options
    module = AutoencodingModule(Linear(), options, losses.MSE(), contraction=1.0).train()
    pair = Pair.of(torch.rand(4000, 1, 4, 4))
    seen = pair.degraded.requires_grad_()
    module.keys = lambda pair, name: torch.arange(len(pair.index)) * 7919  # type: ignore[method-assign]
    found = module._contraction(seen, module.encode(seen), pair)
    assert found.mean().item() == pytest.approx(module.net.down.weight.square().sum().item(), rel=0.05)


@pytest.mark.parametrize("penalty", ["sparsity", "contraction"])
def test_a_penalty_shrinks_what_it_penalises(penalty: str, compose: Compose) -> None:
    weight = {"sparsity": 0.1, "contraction": 0.01}[penalty]
    plain, shrunk = (
        fitted(compose("model=autoencoder", "task=digits", f"model.{penalty}={value}"), max_steps=200)[0].eval()
        for value in (0, weight)
    )
    pair = next(iter(built(compose("model=autoencoder", "task=digits"))[1].test_dataloader()))
    found = []
    for module in (plain, shrunk):
        if penalty == "sparsity":
            found.append(float(module.encode(pair.clean).abs().mean()))
        else:
            jacobian = torch.autograd.functional.jacobian(module.encode, pair.clean[:1])
            found.append(float(jacobian.square().sum()))
    assert found[1] < 0.5 * found[0]


def test_a_training_of_few_epochs_uses_every_number_of_an_fsq_code(compose: Compose) -> None:
    """Without the norm each of the 32 has the same level for all images."""
    module, _ = fitted(compose("model=autoencoder", "model/quantiser=fsq", "task=digits"), max_epochs=3)
    used = (module.counts > 0).sum(1)
    assert int(used.min()) >= 5, used
    assert module.summary["val/mse"] < 0.06, "that of the mean image is 0.075"


@pytest.mark.parametrize("kind", QUANTISERS)
def test_a_quantised_code_is_all_that_the_decoder_sees(kind: str, compose: Compose) -> None:
    module, data = built(compose("model=autoencoder", f"model/quantiser={kind}", QUANTISERS[kind], "task=digits"))
    pair = next(iter(data.test_dataloader()))
    module.eval()
    with torch.no_grad():
        symbols = module.quantised(module.encode(pair.clean)).symbols
        rebuilt = module.decode(module.quantiser.codes(symbols), 8, 8)
        torch.testing.assert_close(rebuilt, module(pair.clean), atol=1e-5, rtol=0)
        torch.testing.assert_close(rebuilt, module.step(pair).image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", QUANTISERS)
def test_a_test_says_the_bits_by_the_symbols_of_the_validation(kind: str, compose: Compose, tmp_path: Path) -> None:
    words = [word for word in QUICK if "limit" not in word and "max_steps" not in word]
    chosen = (f"model/quantiser={kind}", QUANTISERS[kind], "trainer.max_epochs=3")
    config = compose("model=autoencoder", *chosen, *words)
    train(config, tmp_path, {})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    module = build.trained(tmp_path)
    data = build.data(config, build.task(config), build.degradation(config, build.task(config)), module)
    found = {}
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        with torch.no_grad():
            found[split] = torch.cat([module.quantised(module.encode(pair.clean)).symbols for pair in loader])
    channels, size = module.counts.shape
    counts = torch.stack([torch.bincount(found["val"][:, channel], minlength=size) for channel in range(channels)])
    assert torch.equal(module.counts, counts)
    # By the definition: the mean of -log2 of the shares, for each pixel.
    shares = module.frequencies.double() / TOTAL
    expected = -sum(shares[channel][found["test"][:, channel]].log2() for channel in range(channels)) / 64
    assert metrics["test/bits_per_pixel"] == pytest.approx(float(expected.mean()), rel=1e-6)
    assert metrics["test/symbols_in_use"] == pytest.approx(float((counts > 0).float().mean()))


@pytest.mark.slow
def test_a_larger_weight_of_the_rate_takes_fewer_bits(compose: Compose) -> None:
    """At the price of the images; and the estimate that is trained by is near what the symbols take."""
    errors, taken = [], []
    for weight in (0.0, 0.003, 0.03):
        words = ("model=autoencoder", "model/quantiser=scalar", f"model.rate={weight}", "task=digits")
        module = fitted(compose(*words), max_epochs=20)[0].eval()
        pairs = list(built(compose(*words))[1].test_dataloader())
        with torch.no_grad():
            outcomes = [module.step(pair) for pair in pairs]
            symbols = torch.cat([module.quantised(module.encode(pair.clean)).symbols for pair in pairs])
        found = torch.cat(
            [(o.image - p.clean).square().flatten(1).mean(1) for o, p in zip(outcomes, pairs, strict=True)]
        )
        errors.append(float(found.mean()))
        taken.append(float(bits(module.frequencies, symbols).mean()) / 64)
        estimated = float(torch.cat([outcome.terms["rate"] for outcome in outcomes]).mean())
        assert taken[-1] == pytest.approx(estimated, abs=0.15)  # in 180 images rare symbols are not counted well
    assert taken[0] > 1.3 * taken[1] > 1.3**2 * taken[2]
    assert 1.3 * max(errors[:2]) < errors[2]


def test_levels_that_differ_leave_no_symbol_where_there_is_none(compose: Compose) -> None:
    words = ("model/quantiser=fsq", "model.net.latent_dim=3", "model.quantiser.levels=[2,5,3]")
    module, _ = fitted(compose("model=autoencoder", "task=digits", *words), max_epochs=1)
    assert (module.counts >= 0).sum(1).tolist() == [2, 5, 3]
    assert ((module.frequencies > 0) == (module.counts >= 0)).all()
    assert module.counts.clamp_min(0).sum(1).tolist() == [180] * 3


def test_frequencies_are_whole_numbers_of_one_sum_near_the_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 10_000, (20, 33), generator=generator)
    counts[3] = 0
    counts[4, 5:] = -1
    found = frequencies(counts)
    assert (found.sum(1) == TOTAL).all()
    assert (found[counts >= 0] > 0).all()
    assert (found[counts < 0] == 0).all()
    shares = counts[0].double() / counts[0].sum()
    torch.testing.assert_close(found[0].double() / TOTAL, shares, atol=1e-4, rtol=0)


def test_the_bits_of_frequent_symbols_are_their_entropy() -> None:
    symbols = torch.randint(0, 5, (1000, 2, 3, 3), generator=torch.Generator().manual_seed(0)).clamp_min(2)
    counts = torch.stack([torch.bincount(symbols[:, channel].flatten(), minlength=5) for channel in (0, 1)])
    shares = counts.double() / counts.sum(1, keepdim=True)
    entropy = torch.special.entr(shares).sum() / torch.tensor(2.0).log()
    assert float(bits(frequencies(counts), symbols).mean()) == pytest.approx(9 * float(entropy), rel=1e-3)


def test_codes_that_cannot_be_quantised_are_refused(typed: Typed) -> None:
    words = ("model=autoencoder", "model/quantiser=vq")
    assert "model.quantiser.dim: vectors of 5 numbers" in typed.refused(*words, "model.quantiser.dim=5")
    assert "model.quantiser.levels: there are 2 for a code of 32 channels" in typed.refused(
        "model=autoencoder", "model/quantiser=fsq", "model.quantiser.levels=[8,8]"
    )
    assert "model.rate: bits are estimated for a scalar quantiser alone" in typed.refused(
        "model=autoencoder", "model/quantiser=fsq", "model.rate=0.1"
    )
    assert "latent_dim: 0 is out of range" in typed.refused("model=autoencoder", "model.net.latent_dim=0")
    assert "model.quantiser: its keys belong to no class; choose model/quantiser=fsq|scalar|vq" in typed.refused(
        "model=autoencoder", "+model.quantiser.levels=8"
    )
