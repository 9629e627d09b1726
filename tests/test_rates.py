"""`action=rates`: bytes are those of files, rivals are what Pillow writes, BD-rates are those that others compute."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, Compose, Typed
from PIL import Image
from sklearn.datasets import load_digits

from recon import build
from recon.actions.train import train
from recon.codec.bjontegaard import at_equal_quality, bd_rate, compared
from recon.codec.file import compress
from recon.codec.points import Point, of_run
from recon.codec.rivals import STEPS, Components, _scan_start, jpeg, webp
from recon.codec.transform import Pixels, Transform
from recon.degradations.codec import through_file
from recon.report import write

# What the package bjontegaard 1.3.0 gives by PCHIP, which is what JVET's spreadsheet (JVET-T2010) does: of the example
# of its README (libx265), and of that of Valenzise's bjontegaard2.
PUBLISHED = [
    ([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851],
     [9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987], -0.04417485350589045),
    ([686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42],
     [893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24], 0.31379878202397627),
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two codecs of digits, and an autoencoder that is none."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in {
        "few": ("model/quantiser=fsq", "model.net.latent_dim=8"),
        "many": ("model/quantiser=fsq", "trainer.max_epochs=8"),
        "plain": (),
    }.items():
        steps = () if len(words) == 2 and "epochs" in words[1] else ("trainer.max_epochs=4",)
        train(compose("model=autoencoder", *QUICK[2:], *words, *steps), folder / name, {})
    return folder


def digits(count: int) -> list[Pixels]:
    return [(image[None] * 15).astype(np.uint8) for image in load_digits().images[-count:]]


def photos(count: int) -> list[Pixels]:
    """Smooth colour images of odd sizes."""
    draw = np.random.default_rng(0)
    small = [Image.fromarray(draw.integers(0, 256, (4, 5, 3), np.uint8)).resize((37, 29)) for _ in range(count)]
    return [np.asarray(image).transpose(2, 0, 1) for image in small]


# The mean difference of rates


@pytest.mark.parametrize(("rate", "psnr", "other_rate", "other_psnr", "expected"), PUBLISHED)
def test_bd_rates_are_those_of_others(
    rate: list[float], psnr: list[float], other_rate: list[float], other_psnr: list[float], expected: float
) -> None:
    rates, qualities = (np.array(rate), np.array(other_rate)), (np.array(psnr), np.array(other_psnr))
    assert bd_rate(rates, qualities) == pytest.approx(expected, abs=1e-12)
    # A point that takes more for less is no part of a curve.
    worse = (np.append(rates[0], 2 * rates[0][0]), rates[1]), (np.append(qualities[0], 30.0), qualities[1])
    assert bd_rate(*worse) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(bd_rate(rates, (qualities[0], qualities[1] + 100)))


def curve(rates: np.ndarray, psnr: np.ndarray) -> list[Point]:
    return [Point("", {"alone": r}, {"psnr": q}) for r, q in zip(rates, psnr, strict=True)]


def test_a_fifth_less_is_a_fifth_less_and_its_interval_holds_the_truth() -> None:
    psnr = np.array([[20.0], [25.0], [30.0]]) + np.zeros(50)
    rates = np.array([[0.5], [1.0], [2.0]]) + np.zeros(50)
    found = compared(curve(rates, psnr), curve(0.8 * rates, psnr), "alone", "psnr")
    assert found == pytest.approx((-0.2, -0.2, -0.2, 20, 30))
    assert at_equal_quality((rates[:, 0], np.array([0.9])), (psnr[:, 0], np.array([25.0]))) == pytest.approx(-0.1)
    assert np.isnan(at_equal_quality((rates[:, 0], np.array([0.9])), (psnr[:, 0], np.array([31.0]))))
    held = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        each = draw.lognormal(0, 0.3, 100)  # what an image takes, the same in both codecs but for some noise
        ours = 0.8 * rates[:, :1] * each * draw.lognormal(-0.02, 0.2, (3, 100))
        found = compared(curve(rates[:, :1] * each, psnr[:, :1] + np.zeros(100)),
                         curve(ours, psnr[:, :1] + np.zeros(100)), "alone", "psnr")  # fmt: skip
        held += found.low <= -0.2 <= found.high
        assert found.high - found.low < 0.12  # paired: each alone varies by 0.06 in its mean
    assert held >= 34


# Bytes


def test_the_bytes_of_a_codec_are_those_of_its_files(runs: Path) -> None:
    used, images = Transform(build.trained(runs / "many")), digits(60)
    found = of_run("many", used, images)
    files = [len(compress(used, [image], ["a"]).data) for image in images]
    assert (found.rates["alone"] * 64 / 8).tolist() == files
    whole = compress(used, images, [""] * 60)
    assert float(found.rates["together"].sum()) * 64 / 8 == pytest.approx(len(whole.data))
    for image, rebuilt, value in zip(images, whole.rebuilt, found.quality["psnr"], strict=True):
        assert value == pytest.approx(10 * np.log10(255**2 / np.square(image - rebuilt.astype(float)).mean()), abs=1e-3)


@pytest.mark.parametrize("images", [digits(6), photos(6)], ids=["grey", "colour"])
def test_rivals_are_what_pillow_writes(images: list[Pixels]) -> None:
    area = images[0].shape[1] * images[0].shape[2]
    for form, points, options in (("JPEG", jpeg(images), {"optimize": True}), ("WEBP", webp(images), {"method": 6})):
        for number, point in enumerate(points):
            quality = int(point.label.split()[1])
            pixels = images[number % 6].transpose(1, 2, 0)
            picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
            file = io.BytesIO()
            picture.save(file, form, quality=quality, **options)
            assert point.rates["alone"][number % 6] * area / 8 == len(file.getvalue())
            seen = np.asarray(Image.open(file).convert(picture.mode)).astype(float).reshape(pixels.shape)
            psnr = min(100, 10 * np.log10(255**2 / max(np.square(seen - pixels).mean(), 1e-9)))
            assert point.quality["psnr"][number % 6] == pytest.approx(psnr, abs=1e-3)
            assert (point.rates["together"] < point.rates["alone"]).all()


def test_what_is_left_out_of_files_is_their_header() -> None:
    """JPEG: another image's header does as well. WebP: it says what is known, the format and the size."""
    first, second = (image.transpose(1, 2, 0) for image in photos(2))
    decoded, data = through_file(first, "JPEG", quality=30)
    other = through_file(second, "JPEG", quality=30)[1]
    mixed = other[: _scan_start(other)] + data[_scan_start(data) :]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(mixed))), decoded)
    file = through_file(first, "WEBP", quality=30, method=6)[1]
    assert (file[:4], file[8:16], file[23:26]) == (b"RIFF", b"WEBPVP8 ", b"\x9d\x01\x2a")
    assert (int.from_bytes(file[26:28], "little"), int.from_bytes(file[28:30], "little")) == (37, 29)


def test_principal_components_take_the_entropy_of_what_they_are() -> None:
    """Uniform noise: steps err by Δ²/12 (Bennett 1948), and cost h - log2 Δ with h from 0 to that of a Gaussian."""
    draw = np.random.default_rng(0)
    noise = list(draw.integers(0, 256, (4000, 1, 2, 2), np.uint8))
    used = Components(noise[:1500], noise[1500:3500], 30)
    for step, point in zip(STEPS, used.points(noise[3500:]), strict=True):
        if step <= 0.18:
            error = (step**2 + 255**-2) / 12
            mse = 10 ** (-point.quality["psnr"] / 10)
            assert mse.mean() == pytest.approx(error, rel=0.1)
            rate = point.rates["together"].mean() - 8 * 30 / (500 * 4)
            assert -np.log2(step) - 0.05 < rate < 0.5 * np.log2(2 * np.pi * np.e / 12) - np.log2(step) + 0.05
            assert (point.rates["alone"] * 4 / 8 >= 34).all()


def test_blocks_are_put_together_again() -> None:
    images = photos(8)
    used = Components(images, images, 30)
    assert not used.whole
    for image in images:
        assert np.array_equal(used._image(used._vectors(image), image.shape), image)
    finest = used.points(images)[-1]
    assert finest.quality["psnr"].min() > 30


# The command


def test_the_command_and_its_report(runs: Path, typed: Typed) -> None:
    run = runs / "many"
    status, output, errors = typed("action=rates", f"run={run}", f"beside=[{runs / 'few'}]", "images=50")
    assert status == 0, errors
    assert "mean over a curve (BD-rate)" in output
    with open(run / "rates.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows if row["method"] == "codec"] == ["many", "few"]
    assert {row["images"] for row in rows} == {"50"}
    for row in rows:
        assert float(row["bits_per_pixel_alone_low"]) <= float(row["bits_per_pixel_alone"])
    with Image.open(run / "rates.png") as picture:
        assert picture.size[0] == 760
    page = write([run], Path("report.html")).read_text()
    assert "Bytes against quality" in page
    assert "PSNR, a file for each image" in page
    (Path(run) / "rates.csv").write_text("method,setting\ncodec,\n")
    page = write([run], Path("report.html")).read_text()
    assert "Bytes against quality" not in page
    assert "rates.csv cannot be read: it is no table that recon writes" in page
    status, output, _ = typed("action=rates", f"run={run}", "images=20", "output=one")
    assert status == 0
    assert "at the quality of the codec" in output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run=plain",), "run: AutoencodingModule has no code of symbols; choose a run of model=autoencoder with"),
        (("run=many", "beside=plain"), "plain: AutoencodingModule has no code of symbols"),
        (("run=many", "beside=nothing"), "nothing holds no run folder"),
        (("run=many", "images=1"), "images: "),
        (("run=many", "degradation=noise"), "degradation: action=rates does not use it"),
    ],
)
def test_bad_input_gets_one_sentence(words: tuple[str, ...], says: str, runs: Path, typed: Typed) -> None:
    typed.monkeypatch.chdir(runs)
    assert says in typed.refused("action=rates", *words)
