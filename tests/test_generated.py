"""Images of trained generators: the same seed gives the same images, whatever else is asked for."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Compose, Typed
from PIL import Image

from recon import build
from recon.actions.train import train
from recon.errors import InputError
from recon.generated import Generator, sheet, slerp
from recon.report import write

KINDS = {"gan": ["model=gan"], "resgan": ["model=gan", "model/net=resgan"], "vae": ["model=vae"],
         "flow": ["model=flow", "model.steps=3"], "diffusion": ["model=diffusion", "model.steps=3"]}  # fmt: skip


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind of generator, of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in KINDS.items():
        train(compose(*words, *QUICK), folder / name, {})
    return {name: folder / name for name in KINDS}


def maker(folder: Path, labels: list[int] | None = None, truncation: float = 1.0, seed: int = 0) -> Generator:
    return Generator(build.trained(folder), labels, truncation, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_its_number_and_the_seed_alone(kind: str, runs: dict[str, Path]) -> None:
    many, few = maker(runs[kind]).samples(70), maker(runs[kind]).samples(3)
    torch.testing.assert_close(many[:3], few, rtol=0, atol=1e-6)
    assert not torch.allclose(maker(runs[kind], seed=1).samples(3), few)
    assert many.shape == (70, 1, 8, 8)
    assert 0 <= float(many.min()) <= float(many.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_all_images_of_a_class_are_alike(kind: str, runs: dict[str, Path]) -> None:
    images = maker(runs[kind], [3], truncation=0.0).samples(4)
    torch.testing.assert_close(images, images[:1].expand(4, -1, -1, -1), rtol=0, atol=1e-6)


def test_strips_begin_and_end_at_samples_and_a_grid_has_one_noise_a_row(runs: dict[str, Path]) -> None:
    made = maker(runs["gan"], [2, 5])
    strips = made.strips(2, 7).unflatten(0, (2, 7))
    ends = made.images(made.latents(4), torch.tensor([2, 5, 2, 5]))
    torch.testing.assert_close(strips[:, 0], ends[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(strips[:, -1], ends[2:], rtol=0, atol=1e-5)
    grid = made.grid(3).unflatten(0, (3, 2))
    assert (grid[0] != grid[1]).any()
    torch.testing.assert_close(grid[1, 0], made.images(made.latents(3)[1:2], torch.tensor([2]))[0], rtol=0, atol=1e-6)


def test_a_walk_ends_where_it_began(runs: dict[str, Path]) -> None:
    frames = list(maker(runs["gan"]).walk(2, 5))
    assert len(frames) == 20
    steps = torch.tensor([float((a - b).abs().mean()) for a, b in zip(frames, frames[1:] + frames[:1], strict=True)])
    assert steps.max() < 5 * steps.median()


def test_the_great_circle() -> None:
    start, end = torch.randn(2, 5, 16, dtype=torch.float64)
    for share in (0.0, 0.3, 1.0):
        there = slerp(start, end, torch.tensor(share, dtype=torch.float64))
        lengths = [torch.linalg.vector_norm(z, dim=-1) for z in (start, end, there)]
        torch.testing.assert_close(lengths[2], lengths[0] * (1 - share) + lengths[1] * share)
    torch.testing.assert_close(slerp(start, start, torch.tensor(0.5)), start)


def test_small_images_are_enlarged_on_a_sheet_and_large_ones_are_not() -> None:
    assert sheet(torch.rand(5, 1, 8, 8)).size == (3 * 56 + 4, 2 * 56 + 2)
    assert sheet(torch.rand(2, 3, 64, 48), 1).size == (48, 130)


@pytest.mark.parametrize(
    ("labels", "reason"), [([10], "labels: 10 is no class of this model; it has 0 to 9"), ([-1], "labels: -1")]
)
def test_a_label_out_of_range_is_refused(labels: list[int], reason: str, runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=reason):
        maker(runs["gan"], labels)


FORMS = (
    (["n=5"], "generated.png"), (["show=grid", "n=2", "labels=[1,2]"], "generated_grid.png"),
    (["show=strips", "n=2", "steps=3"], "generated_strips.png"), (["show=walk", "n=1", "steps=2"], "generated.gif"),
    (["show=files", "n=11"], "generated/10.png"), (["show=npz", "n=4", "labels=3"], "generated.npz"),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_the_command(kind: str, typed: Typed, runs: dict[str, Path]) -> None:
    run = f"run={runs[kind]}"
    for words, file in FORMS:
        status, output, errors = typed("action=generate", run, "accelerator=cpu", *words)
        assert status == 0, errors
        assert "generate: " in output
        assert Path(file).is_file()
    page = write([runs[kind]], Path("report.html")).read_text()
    assert page.count('class="drawn"') == 3
    with np.load("generated.npz") as arrays:
        assert arrays["images"].shape == (4, 8, 8, 1)
        assert arrays["labels"].tolist() == [3] * 4
    with Image.open("generated.gif") as moving:
        assert moving.n_frames == 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("n=0", "n: 0 is out of range"), ("truncation=-1", "truncation: -1 is out of range"),
        ("labels=x", "labels: 'x' are no classes"), ("labels=10", "labels: 10 is no class of this model"),
        ("show=walk output=a.png", "written as .gif or .webp"), ("steps=0", "steps: 0 is out of range"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(words: str, reason: str, kind: str, typed: Typed, runs: dict[str, Path]) -> None:
    assert reason in typed.refused("action=generate", f"run={runs[kind]}", "accelerator=cpu", *words.split())


def test_a_run_that_generates_nothing_is_refused(typed: Typed, compose: Compose) -> None:
    train(compose("model=classifier", *QUICK), typed.tmp_path / "other", {})
    refused = typed.refused("action=generate", "run=other", "accelerator=cpu")
    assert "run: ClassificationModule generates no images; choose a run of model=gan" in refused


@pytest.mark.parametrize("words", [words for words, _ in FORMS], ids=[file for _, file in FORMS])
def test_a_full_disk_is_one_sentence(
    words: list[str], typed: Typed, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recon.runs.files.os.fsync", full)
    refused = typed.refused("action=generate", f"run={runs['gan']}", "accelerator=cpu", *words)
    assert re.search(r"the disk is full: writing \S+ needs .* MB; free some space, or choose another folder", refused)
