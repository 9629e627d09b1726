"""What is done to the words of a command line before and after Hydra reads them."""

from pathlib import Path

import pytest
from conftest import QUICK, ROOT, Typed
from report_runs import carry_out
from sweeping import Sweep, fixture, planning  # noqa: F401  the fixtures

from recon.config.words import readable
from recon.runs import RunFolder
from recon.sweep.compose import Composer

ON_DIGITS = [word for word in QUICK if "max_steps" not in word]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("task.path=~/photos", "task.path=/home/me/photos"),
        ("task.path=~", "task.path=/home/me"),
        ("task.path=~/my photos/**/*.jpg", "task.path='/home/me/my photos/**/*.jpg'"),
        ("runs=~/a,~/b", "runs=/home/me/a,/home/me/b"),
        ("sweep.space={task.path: [~/a, ~/b]}", "sweep.space={task.path: [/home/me/a, /home/me/b]}"),
        ("+x.y=[~/a]", "+x.y=[/home/me/a]"),
        ("--config-dir=~/mine", "--config-dir=/home/me/mine"),
        ("task.path='~/photos'", "task.path='~/photos'"),
        ("logger.name=a~b", "logger.name=a~b"),
        ("~task.crop", "~task.crop"),
        ("input=photo (1), new.jpg", "input='photo (1), new.jpg'"),
        ("output={name}_new.png", "output='{name}_new.png'"),
        ("input=[~/a.png,b.png]", "input=[/home/me/a.png,b.png]"),
        ("input=~/a.png", "input=/home/me/a.png"),
        ("mask_color=#ff00ff", "mask_color='#ff00ff'"),
        ("mask=null", "mask=null"),
        ("debug=true", "debug='true'"),
        ("augment=1e-3", "augment='1e-3'"),
        ("experiment=null", "experiment=null"),
        ("seed=3", "seed=3"),
        ("-m", "-m"),
    ],
)
def test_words_become_what_hydra_reads(typed: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert readable([typed], [ROOT / "conf"]) == [read]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("action=rates run=a,b/c,d", "action=rates run=a beside=[b/c,d]"),
        ("run='x, y',b action=curve beside=c", "run='x, y' action=curve beside=[b,c]"),
        ("run=a,b action=rates beside=[c,d]", "run=a action=rates beside=[b,c,d]"),
        ("action=rates run=a beside=b", "action=rates run=a beside=b"),
        ("-m action=rates run=a,b", "-m action=rates run=a,b"),
        ("action=evaluate run=a,b", "action=evaluate run=a,b"),
        ("action=rates run=[a,b", "action=rates run=[a,b"),
    ],
)
def test_several_runs_stand_beside_the_first_where_runs_are_compared(typed: str, read: str) -> None:
    def words(text: str) -> list[str]:
        return [word.replace("x,_y", "x, y") for word in text.replace("x, y", "x,_y").split()]

    assert readable(words(typed), [ROOT / "conf"]) == words(read)


def test_a_home_in_quotes_or_in_a_file_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("# mine\ndefaults: [folder, _self_]\npath: ~/photos\n")
    config = Composer(["--config-dir", str(tmp_path)])(["task=mine", "data.root='~/sets'"])
    assert config["task"]["path"] == "/home/me/photos"
    assert config["data"] == {"root": "/home/me/sets", "store": "memory", "cache": "/home/me/sets/.cache"}


def test_debug_is_one_batch_of_each_on_the_cpu_elsewhere(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    status, output, errors = typed("model=classifier", "logger=csv", "trainer.max_steps=9", "debug=true")
    assert status == 0, errors
    (folder,) = (tmp_path / "temporary").glob("recon-debug-*/*")
    assert not (tmp_path / "outputs").exists()
    assert "epoch 1/1, step 1/1: loss" in output
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 1
    assert len((folder / "per_image.csv").read_text().splitlines()) == 1 + 64
    config = (folder / "config.yaml").read_text()
    assert "detect_anomaly: true" in config
    assert "accelerator: cpu" in config
    assert not (folder / "csv").exists()
    _, shown, _ = typed("debug=true", "--cfg", "hydra", "-p", "hydra.sweep.dir")
    assert "recon-debug" in shown
    assert "as it began; leave out debug='true'" in typed.refused(f"resume={folder}", "debug=true")


def test_a_sweep_evaluates_runs_each_on_its_own_terms(
    sweep: Sweep, plan: Sweep, image_folder: Path, tmp_path: Path
) -> None:
    for name, model in {"noisy": "restoration", "holes": "inpainting"}.items():
        words = (
            f"model={model}",
            "task=folder",
            f"task.path={image_folder}/digit_0",
            "trainer.max_steps=1",
            *ON_DIGITS,
        )
        assert carry_out(tmp_path / "outputs" / name, *words) == 0
    others = image_folder / "digit_1"
    words = ("action=evaluate", "run=noisy,last", *ON_DIGITS)
    done = sweep(*words, f"task.test={others}", "sweep.jobs=2")
    assert done.status == 0, done.errors
    assert [Path(job["folder"]).name for job in done.jobs] == ["0_run-noisy", "1_run-holes"]
    tested = [RunFolder(done.run(number)).config for number in range(2)]
    damage = [config["degradation"]["_target_"].rpartition(".")[2] for config in tested]
    assert damage == ["GaussianNoise", "MissingPixels"]
    assert "4 jobs, 0 of them done before" in plan(*words, f"task.test={others},{others}/0*.png").output
    # Damage that one of them cannot have is told before the first starts; so is a run that is not there.
    assert "degradation.sigma: there is no such key" in plan(*words, "degradation.sigma=0.1,0.2").errors
    assert "nowhere is no run folder" in plan("action=evaluate", "run=last,nowhere").errors
    assert "choose hydra/launcher=parallel|submitit" in plan(*words, "hydra/launcher=basic").errors
