"""A mistake in any job of a sweep is reported before the first starts, whatever the launcher and the search."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweeping import QUICK, Sweep, fixture  # noqa: F401  the fixture

# What all jobs share, the key that varies with a value of the first job and one of the second, and what is blamed.
MISTAKES = {
    "a degradation without holes": (("model=inpainting",), "degradation", "missing", "noise", "model=inpainting"),
    "a key of the wrong name": (("model=classifier", "+optimizer.lrr=1"), "seed", "1", "2", "optimizer.lrr"),
    "a net for another model": (("model=vae",), "model/net", "vae", "unet", "model.net: UNet"),
    "a task without labels": (("model=classifier", "task=folder"), "task.path", "labelled", "flat", "needs labels"),
}


@pytest.fixture
def folders(sweep: Sweep, tmp_path: Path) -> None:
    """Make folders of images, one with a subfolder for each class, in the working directory."""
    for name in ("labelled/a", "labelled/b", "flat"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(np.full((16, 16), 40 * number, np.uint8)).save(tmp_path / name / f"{number}.png")


def refused(sweep: Sweep, top: Path, *words: str) -> str:
    """Return the sentence that refuses a sweep, of which nothing was started or written."""
    done = sweep(*words)
    assert done.status == 2, done.output
    assert "Traceback" not in done.errors
    (sentence,) = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    assert not list(top.glob("outputs/**/*"))
    return sentence


@pytest.mark.parametrize(
    "way",
    ["hydra/launcher=parallel", pytest.param("hydra/launcher=basic", marks=pytest.mark.slow), "sweep=random"],
)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_one_job_stops_all(mistake: str, way: str, sweep: Sweep, folders: None, tmp_path: Path) -> None:
    shared, key, good, bad, blamed = MISTAKES[mistake]
    if way.startswith("sweep="):
        # Hydra composes the command itself first.
        first = [f"task.path={good}"] if key == "task.path" else []
        varied = [*first, f"sweep.space={{{key}:[{good},{bad}]}}"]
    else:
        varied = [f"{key}={good},{bad}"]
    assert blamed in refused(sweep, tmp_path, way, *shared, *varied, *QUICK)


@pytest.mark.parametrize(
    ("words", "blamed"),
    [
        (("action=list",), "action=list"),
        (("action=report", "runs=/nowhere"), "action=report"),
        (("run=/nowhere", "seed=1,2", *QUICK), "run: action=train does not use it"),
        (("sweep.seed=-1", "seed=1,2", *QUICK), "sweep.seed"),
        (("sweep=optuna", "model=inpainting", "sweep.space={degradation:[missing,noise]}", *QUICK), "model=inpainting"),
        (("sweep=optuna", "model=inpainting", "sweep.space={degradation.fraction:{low:0.5,high:1.5}}", *QUICK),
         "degradation.fraction"),
        (("sweep=random", "hydra/launcher=submitit", "sweep.slurm.cluster=local", "model=vae", "accelerator=cpu",
          "sweep.space={model/net:[vae,unet]}"), "model.net: UNet"),
        (("hydra/launcher=submitit", "sweep.slurm.cluster=local", "model=vae", "model/net=vae,unet", *QUICK),
         "model.net: UNet"),
        (("sweep=random", "sweep.space={optimizer.lr:[1e-3]}", "hydra/launcher=submitit"), "trainer.accelerator"),
        (("sweep=random", "sweep.space={optimizer.lr:[1e-3]}", "hydra/launcher=basic"), "hydra/launcher=basic"),
        (("sweep=random", "sweep.space={optimizer.lr:[1e-3]}", "sweep.slurm.dry_run=true", *QUICK), "sweep.slurm.dry"),
        (("sweep=random", "sweep.space={optimizer.lr:[1e-3]}", "hydra/launcher=submitit", "sweep.slurm.dry_run=true",
          *QUICK), "a search chooses its jobs"),
    ],
)  # fmt: skip
def test_a_mistake_stops_a_sweep(words: tuple[str, ...], blamed: str, sweep: Sweep, tmp_path: Path) -> None:
    assert blamed in refused(sweep, tmp_path, *words)
