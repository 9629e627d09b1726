"""What a test leaves for the report: the cost of the net, the first and the worst images as numbers."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from lightning.pytorch import Trainer
from test_modules import QUIET, built

from recon.measures import ROWS
from recon.runs.draw import Words, words
from recon.training.cost import Cost, median_seconds
from recon.training.pictures import Pictures


def after_a_test(config: dict[str, Any], *callbacks: Any) -> Any:
    module, data = built(config)
    Trainer(**QUIET, callbacks=list(callbacks)).test(module, datamodule=data, verbose=False)
    return module, data


@pytest.mark.parametrize("model", ["restoration", "inpainting", "classifier", "gan", "vae"])
def test_the_cost_is_measured_and_changes_nothing_else(model: str, compose: Compose, tmp_path: Path) -> None:
    config = compose(f"model={model}", "task=digits")
    alone, _ = after_a_test(config)
    torch.manual_seed(3)
    expected = torch.rand(1)
    module, data = built(config)
    trainer = Trainer(**QUIET, callbacks=[Pictures(tmp_path), Cost()])
    torch.manual_seed(3)
    trainer.test(module, datamodule=data, verbose=False)
    assert torch.rand(1) == expected, "the global random state was changed"
    cost = {name: value for name, value in module.summary.items() if name.startswith("cost/")}
    assert {name: value for name, value in module.summary.items() if name not in cost} == alone.summary
    net: Any = module.net
    used = net.generator if model == "gan" else net
    assert cost["cost/parameters"] == sum(weight.numel() for weight in used.parameters())
    assert 0.01 < cost["cost/latency_ms"] < 10_000
    # A batch of 64 of 8×8 pixels takes no less than one image and, in one go, less than 64 of them.
    seconds = 64 * 64 / 1e6 / cost["cost/megapixels_per_second"]
    assert cost["cost/latency_ms"] / 1000 * 0.5 < seconds < 64 * cost["cost/latency_ms"] / 1000 * 2
    assert module.training, "the module is as it was before the test"


def words_of(module: Any, arrays: Any) -> Words:
    table = {name: column.numpy() for name, column in module.results.items()}
    return words(arrays, table, ROWS, module.class_names)


def test_the_median_does_not_see_a_slow_start_nor_one_slow_repetition() -> None:
    waits = iter([0.05, 0.001, 0.03])

    def work() -> torch.Tensor:
        time.sleep(next(waits, 0.001))
        return torch.zeros(1)

    assert 0.001 <= median_seconds(work, 0.1) < 0.003 + 0.02


@pytest.mark.parametrize(("model", "name"), [("restoration", "psnr"), ("inpainting", "psnr_hole"), ("vae", "loss")])
def test_the_worst_images_are_kept_as_numbers(model: str, name: str, compose: Compose, tmp_path: Path) -> None:
    module, data = after_a_test(compose(f"model={model}", "task=digits"), Pictures(tmp_path))
    values = module.results[name].numpy()
    order = np.argsort(values if model != "vae" else -values, kind="stable")[:8]
    for file, index in (("samples", np.arange(8)), ("worst", order)):
        arrays = np.load(tmp_path / "images" / f"{file}.npz", allow_pickle=False)
        assert arrays["index"].tolist() == index.tolist()
        clean = data.load().test.gather(torch.from_numpy(index)).permute(0, 2, 3, 1).numpy()
        assert (arrays["clean"] == clean).all()
        assert arrays["restored"].dtype == np.uint8
        assert arrays["restored"].shape == (8, 8, 8, 1)
    assert (tmp_path / "images" / "worst.png").is_file()
    captions = words_of(module, arrays).captions
    places = arrays["index"].tolist()
    restored = [f"{module.results['psnr'][place]:.2f} dB" for place in places]
    if model == "inpainting":
        restored = [f"{r}\nhole {module.results['psnr_hole'][p]:.2f} dB" for r, p in zip(restored, places, strict=True)]
    assert captions["restored"] == restored
    damaged = [f"{module.results['psnr_degraded'][place]:.2f} dB" for place in places]
    assert captions["degraded"] == ([""] * 8 if model == "vae" else damaged), (
        "100 dB where nothing is damaged is no news"
    )
    assert ("degraded" in arrays) == (model != "vae")
    assert ("mask" in arrays) == (model == "inpainting")


def test_the_worst_of_a_classifier_are_its_most_confident_mistakes(compose: Compose, tmp_path: Path) -> None:
    module, _ = after_a_test(compose("model=classifier", "task=digits"), Pictures(tmp_path))
    module.class_names = tuple(f"class of {number}" for number in range(10))
    wrong = [
        (float(confidence), int(index))
        for index, confidence, seen, label in zip(
            *(module.results[name] for name in ("index", "confidence", "prediction", "label")), strict=True
        )
        if seen != label
    ]
    arrays = np.load(tmp_path / "images" / "worst.npz")
    worst = arrays["index"].tolist()
    assert worst == [index for _, index in sorted(wrong, key=lambda row: -row[0])[:8]]
    written = words_of(module, arrays)
    seen = module.results["prediction"][worst].long().tolist()
    assert written.cells["prediction"] == [f"class of {label}" for label in seen]
    assert written.cells["truth"] == [title.replace("digit ", "class of ").split(",")[0] for title in arrays["title"]]
    assert written.cells["confidence"][0] == f"{100 * module.results['confidence'][worst[0]]:.1f} %"
    assert all(written.wrong)
    table: Any = module.artifacts(module.results)["confusion"]
    assert [row["truth"] for row in table] == list(table[0])[1:] == list(module.class_names)


def test_a_generator_has_samples_but_no_worst(compose: Compose, tmp_path: Path) -> None:
    after_a_test(compose("model=gan", "task=digits"), Pictures(tmp_path))
    samples = np.load(tmp_path / "images" / "samples.npz")
    assert samples["sample 1"].shape == (8, 8, 8, 1)
    assert not (tmp_path / "images" / "worst.npz").exists()
