"""The classifiers that come along: how well they recognise, and that generators are judged by them unasked."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Compose, Typed, data_root
from PIL import Image

import recon
from recon import build
from recon.actions.train import train
from recon.errors import InputError
from recon.metrics import predicted
from recon.restore.weights import FOLDER, load_weights, names

# The least accuracy on the test images.
JUDGES = {"digits": 0.95, "mnist": 0.99, "fashion_mnist": 0.92}


def accuracy(task: str, compose: Compose) -> float:
    config = compose(f"task={task}", "model=classifier", "accelerator=cpu")
    made = build.task(config)
    net = load_weights(f"judge_{task}").net
    right, count = 0, 0
    with torch.inference_mode():
        for pair in made.load_for(data_root(), build.degradation(config, made), None).test.loader(
            "test", 500, build.degradation(config, made)
        ):
            right += int((predicted(net(pair.clean)) == pair.label).sum())
            count += len(pair.label)
    return right / count


@pytest.mark.parametrize("task", JUDGES)
def test_a_judge_recognises_the_test_images(task: str, compose: Compose) -> None:
    if task != "digits" and not (data_root() / task).is_dir():
        pytest.skip(f"{task} is not in {data_root()}")
    assert accuracy(task, compose) >= JUDGES[task]


def test_judges_are_small_and_listed_with_their_hashes_and_cards() -> None:
    files = [FOLDER / f"judge_{task}.safetensors" for task in JUDGES]
    assert sum(path.stat().st_size for path in files) <= 1_000_000
    listed = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    for path in files:
        assert listed[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert "recognises" in path.with_suffix(".md").read_text()
    assert "judge_cifar10" not in names()


def test_a_generator_is_judged_unasked_and_not_where_nobody_judges(compose: Compose, tmp_path: Path) -> None:
    for words, is_judged in (((), True), (("model.judge=null",), False)):
        folder = tmp_path / str(is_judged)
        train(compose("model=gan", *words, *QUICK), folder, {})
        record = json.loads((folder / "metrics.json").read_text())
        assert ("test/recognised" in record) is is_judged


def test_a_judge_mends_no_photographs(typed: Typed) -> None:
    Image.new("L", (32, 32)).save("x.png")
    status, _, errors = typed("action=restore", "input=x.png", "weights=judge_digits")
    assert status != 0
    assert "judge_digits recognises images and restores none" in errors
    with pytest.raises(InputError, match="name: judge_digits recognises images and restores none"):
        recon.load("judge_digits")
