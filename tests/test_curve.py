"""`action=curve`: what is measured at each severity, what is compared, and what is said of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Compose, Typed
from PIL import Image
from scipy.integrate import trapezoid
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score

from recon.actions.train import train
from recon.curve import compare
from recon.curve.compare import Curve
from recon.curve.damage import Damage, Point, numbers, of_corruptions, of_levels
from recon.degradations import Identity
from recon.errors import InputError
from recon.metrics.classes import calibration_error

LEVELS = (0.0, 0.25, 0.5)
DAMAGE = Damage("sigma of noise", "noise", [Point(level, Identity()) for level in LEVELS])
NOISE = {"_target_": "recon.degradations.noise.GaussianNoise", "sigma": 0.1}


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers of digits, one of them trained on noise, a denoiser, and a generator."""
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "clean": ("model=classifier", "trainer.max_epochs=4"),
        "noisy": ("model=classifier", "degradation=noise", "degradation.sigma=[0,0.5]", "trainer.max_epochs=4"),
        "denoiser": ("model=restoration", "model/net=unet", "degradation=noise", "degradation.sigma=[0,0.5]",
                     "trainer.max_epochs=2"),
        "gan": ("model=gan", "trainer.max_steps=1"),
    }  # fmt: skip
    for name, overrides in words.items():
        config = compose(*overrides, "logger=none", "accelerator=cpu", "trainer.enable_progress_bar=false")
        degradation = "noise" if "degradation=noise" in overrides else "none"
        train(config, folder / name, {"choices": {"degradation": degradation}, "overrides": list(overrides)})
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_curve_of_two_classifiers_and_a_restorer(runs: Path, typed: Typed) -> None:
    status, output, errors = typed(
        "action=curve", f"run={runs / 'clean'}", f"beside=[{runs / 'noisy'}]", f"restorer={runs / 'denoiser'}",
        "degradation=noise", "severities=0:0.5:3", "accelerator=cpu",
    )  # fmt: skip
    assert status == 0, errors
    rows = table(runs / "clean" / "curve_noise.csv")
    labels = ["clean", "noisy", "clean after denoiser"]
    assert [(row["method"], float(row["severity"])) for row in rows] == [(a, b) for a in labels for b in LEVELS]
    # Without damage it is the test of the run itself, image by image.
    record = json.loads((runs / "clean" / "metrics.json").read_text())
    assert float(rows[0]["accuracy"]) == pytest.approx(record["test/accuracy"], abs=1e-9)
    per_image = table(runs / "clean" / "per_image.csv")
    right = [row["prediction"] == row["label"] for row in per_image]
    confidence = [float(row["confidence"]) for row in per_image]
    assert float(rows[0]["ece"]) == pytest.approx(calibration_error(confidence, right), abs=1e-6)
    assert accuracy_score(*zip(*((r["label"], r["prediction"]) for r in per_image), strict=True)) == np.mean(right)
    accuracy = {(row["method"], float(row["severity"])): float(row["accuracy"]) for row in rows}
    assert accuracy["clean", 0.5] < accuracy["clean", 0] - 0.1
    assert accuracy["noisy", 0.5] > accuracy["clean", 0.5]
    for row in rows:
        assert float(row["accuracy_low"]) < float(row["accuracy"]) <= float(row["accuracy_high"])
        is_first = row["method"] == "clean"
        assert (row["difference"] == "") == is_first
        if not is_first:
            gain = float(row["accuracy"]) - accuracy["clean", float(row["severity"])]
            assert float(row["difference"]) == pytest.approx(gain)
            assert float(row["difference_low"]) <= gain <= float(row["difference_high"])
    of_classes = [row for row in table(runs / "clean" / "curve_noise_by_class.csv") if row["method"] == "clean"]
    counts = np.array([int(row["images"]) for row in of_classes])
    assert counts.sum() == len(per_image)
    for level in ("0", "0.25", "0.5"):
        mean = counts @ [float(row[level]) for row in of_classes] / counts.sum()
        assert mean == pytest.approx(accuracy["clean", float(level)])
    recall = {row["class"]: float(row["recall"]) for row in table(runs / "clean" / "classes.csv")}
    assert {row["class"]: float(row["0"]) for row in of_classes} == pytest.approx(
        {name: recall[name] for name in "0123456789"}
    )
    assert typed("action=report", f"runs={runs / 'clean'}")[0] == 0
    page = (runs / "clean" / "report.html").read_text()
    assert "As damage grows" in page
    for title in ("accuracy against the severity of noise", "calibration error against the severity of noise"):
        assert page.count(f"<figcaption>{title}</figcaption>") == 1
    assert "accuracy of each class by the severity of noise" in page
    assert "cannot be read" not in page
    assert "noisy: mean accuracy over sigma of noise 0 to 0.5 is" in output
    assert "Restoring first" in output
    assert "McNemar's test" in output
    with Image.open(runs / "clean" / "curve_noise.png") as picture:
        assert picture.size[0] == 760
        assert len(picture.getcolors(1 << 20) or []) > 50


def test_a_curve_of_a_restorer_is_of_psnr_and_ssim(runs: Path, typed: Typed) -> None:
    words = ("severities=[0,0.2,0.4]", "output=made/up", "accelerator=cpu")
    status, output, errors = typed("action=curve", f"run={runs / 'denoiser'}", *words)
    assert status == 0, errors
    rows = table(Path("made/up.csv"))
    assert [float(row["severity"]) for row in rows] == [0, 0.2, 0.4]
    psnr = [float(row["psnr"]) for row in rows]
    assert psnr == sorted(psnr, reverse=True)
    assert all(0 < float(row["ssim_low"]) < float(row["ssim"]) < float(row["ssim_high"]) < 1 for row in rows)
    assert "mean PSNR over sigma of noise 0 to 0.4 is" in output


def test_the_table_of_corruptions(runs: Path, typed: Typed) -> None:
    status, output, errors = typed("action=curve", f"run={runs / 'clean'}", f"beside={runs / 'noisy'}", "output=out",
                                   "corruption=mnist_c", "accelerator=cpu")  # fmt: skip
    assert status == 0, errors
    rows = [row for row in table(Path("out_by_kind.csv")) if row["method"] == "clean"]
    assert [row["corruption"] for row in rows] == ["clean", *of_corruptions("mnist_c").kinds, "mean"]
    kinds = [float(row["1"]) for row in rows[1:-1]]
    assert float(rows[-1]["mean"]) == pytest.approx(np.mean(kinds))
    assert "canny_edges" in output
    assert (
        f"mean accuracy over 15 corruptions of mnist_c at severities 1 to 1 is {100 * np.mean(kinds):.2f} %" in output
    )
    assert list(rows[0]) == ["method", "corruption", "1", "mean"]
    (clean, corrupted) = [row for row in table(Path("out.csv")) if row["method"] == "clean"]
    assert float(clean["accuracy"]) == pytest.approx(float(rows[0]["mean"]))
    assert float(corrupted["accuracy"]) == pytest.approx(np.mean(kinds))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("degradation=noise",), "severities: give either severities=0:0.5:11, of a degradation, or corruption="),
        (("degradation=noise", "severities=0:2:3"), "severities: at 2, degradation.sigma: levels are in [0,1]"),
        (("degradation=noise", "severities=0:0.5"), "severities: '0:0.5' is no range; give it as severities=0:0.5:11"),
        (("degradation=noise", "severities=[0.3,0.1]"), "severities: [0.3, 0.1] do not rise"),
        (("degradation=noise", "severities=[0,x]"), "severities: [0, 'x'] are no numbers; give them as severities=[0,"),
        (("degradation=noise", "severities=0:1:3", "task=photos"), "task: model=classifier needs labels and this task"),
        (("degradation=noise", "severities=0:1:3", "task=mnist"),
         "task: the model cannot be used here (it was trained on images of 8×8, and these are images of 28×28)"),
        (("degradation=noise", "severities=0:1:3", "restorer=denoise_grey"),
         "restorer: denoise_grey is no run folder; give restorer=outputs/<day>/<run>"),
        (("degradation=noise", "severities=0:1:3", "beside=what"), "beside: what is no run folder; give beside="),
        (("severities=0:1:3",), "level: degradation=none: it has no single level"),
        (("degradation=noise", "level=what", "severities=0:1:3"), "level: degradation=noise: 'what' is no key of it"),
        (("corruption=mnist",), "corruption: 'mnist' does not exist; choose cifar10_c|mnist_c"),
        (("degradation=downsample", "degradation.upsample=null", "severities=[1,2]"),
         "it makes images 2 times smaller"),
        (("degradation=noise", "severities=0:1:3", "restorer=gan"), "restorer: gan restores no images"),
        (("degradation=noise", "severities=0:1:3", "restorer=clean"), "restorer: clean restores no images"),
        (("degradation=noise", "severities=0:1:3", "beside=[denoiser]"), "beside: denoiser is a run of another kind"),
        (("degradation=noise", "severities=0:1:3", "augment=flip"), "augment: action=curve does not use it"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(words: tuple[str, ...], says: str, runs: Path, typed: Typed) -> None:
    typed.monkeypatch.chdir(runs)
    assert says in typed.refused("action=curve", "run=clean", "accelerator=cpu", *words)


def test_generators_and_restorers_of_restorers_are_refused(runs: Path, typed: Typed) -> None:
    typed.monkeypatch.chdir(runs)
    words = ("action=curve", "degradation=noise", "severities=0:1:3", "accelerator=cpu")
    assert "run: gan generates images" in typed.refused(*words, "run=gan").replace(str(runs) + "/", "")
    assert "restorer: it comes before a model that recognises" in typed.refused(*words, "run=denoiser", "restorer=gan")


# What the numbers come to


def test_severities_are_read() -> None:
    assert numbers("0:0.5:11") == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
    assert numbers([1, 2]) == [1.0, 2.0]
    assert [point.operator.level for point in of_levels(NOISE, "noise", None, "0:0.5:3").points] == [
        (0, 0), (0.25, 0.25), (0.5, 0.5),
    ]  # fmt: skip
    for wrong in ("0:1:1", "0:1:1e9", "x", "1:0:3"):
        with pytest.raises(InputError, match=r"^severities: "):
            numbers(wrong)


def curve(values: np.ndarray) -> Curve:
    return compare._with_interval("one", "accuracy", values)


def test_intervals_differences_and_areas_are_the_textbook_s() -> None:
    drawn = np.random.default_rng(0)
    first, second = ((drawn.random((400, 3)) < chance).astype(float) for chance in (0.6, 0.7))
    one, two = curve(first), curve(second)
    expected = binomtest(int(first[:, 1].sum()), 400).proportion_ci(0.95, "wilson")
    assert (one.low[1], one.high[1]) == pytest.approx((expected.low, expected.high))
    (by,) = compare.differences([one, two])
    gained, lost = ((second - first) > 0).sum(0), ((second - first) < 0).sum(0)
    p = np.array([binomtest(int(g), int(g + n)).pvalue for g, n in zip(gained, lost, strict=True)])
    assert by.p.min() == pytest.approx(min(1, 3 * p.min()))
    assert by.mean == pytest.approx(second.mean(0) - first.mean(0))
    areas = compare.areas([one, two], DAMAGE)
    assert areas[0].mean == pytest.approx(trapezoid(first.mean(0), LEVELS) / 0.5)
    assert areas[1].more[0] == pytest.approx(areas[1].mean - areas[0].mean)
    assert areas[1].more[1] < areas[1].more[0] < areas[1].more[2]


def test_the_crossover_has_an_interval_that_holds_the_truth() -> None:
    """Restoring loses 10 points at 0, gains 10 at 0.5: it helps from 0.25 on."""
    covered = 0
    for seed in range(40):
        drawn = np.random.default_rng(seed)
        levels = np.array([0.0, 0.5])
        before = (drawn.random((600, 2)) < (0.8, 0.7)).astype(float)
        after = (drawn.random((600, 2)) < (0.7, 0.8)).astype(float)
        at, low, high = compare.crossover(curve(before), curve(after), levels)
        assert low <= at <= high
        covered += low <= 0.25 <= high
    assert covered >= 35
    damage = Damage("sigma of noise", "noise", DAMAGE.points[::2])
    assert "Restoring first helps one from sigma of noise" in compare.helps(curve(before), curve(after), damage)
    same = curve(before)
    assert "does not help one at sigma of noise 0.5" in compare.helps(same, same, damage)
    better = curve(np.ones_like(before))
    assert "helps one at every sigma of noise measured" in compare.helps(curve(before * 0), better, damage)


def test_the_calibration_error_is_that_of_its_definition() -> None:
    drawn = np.random.default_rng(0)
    confidence = drawn.random(5000)
    right = drawn.random(5000) < confidence**2
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.array([abs(confidence[bins == b].mean() - right[bins == b].mean()) for b in range(15)])
    share = np.bincount(bins, minlength=15) / 5000
    assert calibration_error(confidence, right) == pytest.approx((gaps * share).sum(), abs=1e-6)
    assert calibration_error(confidence, right, "l2") == pytest.approx((gaps**2 * share).sum() ** 0.5, abs=1e-6)
    assert calibration_error(confidence, right, "max") == pytest.approx(gaps.max(), abs=1e-6)
