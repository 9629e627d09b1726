"""A run that was stopped, killed or cut off goes on to the very weights and numbers of one that never was."""

import csv
import errno
import hashlib
import json
import pkgutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT, Compose, Typed
from lightning.pytorch.callbacks import Timer

from recon import keyed
from recon.actions.train import train
from recon.errors import InputError, Interrupted
from recon.runs.checkpoint import load
from recon.training import interrupt

# Six steps an epoch, three epochs.
QUICK = (
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=4",
    "accelerator=cpu",
    "logger=none",
    "task.batch_size=16",
)
GAN = (
    "model=gan", "model.net.base=16", "model.net.generator_widths=[16,8]", "model.net.discriminator_widths=[8,16]",
)  # fmt: skip
CASES = {
    "dropout, batch norm": ["model=classifier", "model/net=cnn"],
    "mixed images, sharpness, weights of classes, average": [
        "model=classifier", "model/net=cnn", "model.mixup=0.2", "model.cutmix=1", "model.sam=0.05", "model.ema=0.9",
        "model.class_weights=balanced", "model.focal=2", "task.balanced=true",
    ],
    "whitened first layer": ["model=classifier", "model/net=speednet", "model.ema=0.9", "augment=randaugment"],
    "schedule by step": ["model=restoration", "scheduler=one_cycle", "model/net=dncnn", "model.net.depth=3"],
    "schedule by epoch": ["model=autoencoder", "scheduler=step", "scheduler.step_size=1", "optimizer=momentum"],
    "schedule by metric": ["model=autoencoder", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.1"],
    "two optimisers, average": [*GAN, "model.net.dropout=0.2", "scheduler=cosine"],
    "gradient penalty": [*GAN, "model.gradient_penalty=10", "model.net.norm=none", "scheduler=step"],
    "plateau by hand": ["model=inpainting", "model.adversarial=0.01", "scheduler=plateau", "model.net.widths=[8,16]"],
    "average, drawn codes": ["model=vae", "model.ema=0.9"],
    "average, drawn codes, discriminator": [
        "model=vae", "model.ema=0.9", "model.adversarial=0.1", "model.warm_up=10", "model.discriminator.dropout=0.2",
        "model.discriminator.widths=[8,16]",
    ],
    "bfloat16, clipping, crops that grow": [
        "model=restoration", "accelerator=cpu_bf16", "model.net.widths=[8,16]", "augment=crop_flip",
        "trainer.gradient_clip_val=0.1", "optimizer=adamw", "task.crop=[4,6,8]",
    ],
    "keyed masks": ["model=self_supervised", "model.method=noise2void", "model.net.widths=[8,16]"],
    "accumulation": ["model=autoencoder", "trainer.accumulate_grad_batches=2"],
    "validation within the epoch": ["model=autoencoder", "trainer.val_check_interval=2"],
    "validation every other epoch": ["model=autoencoder", "trainer.check_val_every_n_epoch=2", "scheduler=plateau"],
    "validation counted over epochs": [
        "model=autoencoder", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=4",
    ],
    "without validation": ["model=autoencoder", "trainer.limit_val_batches=0"],
    "steps": [*GAN, "trainer.max_epochs=100", "trainer.max_steps=15"],
    "early stopping": ["model=classifier", "early_stopping=1", "optimizer.lr=1e-7"],
}  # fmt: skip


class Stop:
    """Stands for a signal that comes before a certain step."""

    def __init__(self) -> None:
        self.after = -1

    def __call__(self) -> int:
        self.after -= 1
        return signal.SIGTERM if self.after == -1 else 0


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    stands_in = Stop()
    monkeypatch.setattr(interrupt, "asked", stands_in)
    return stands_in


def digest(value: Any) -> str:
    """Hash whatever a checkpoint holds, to the last bit."""
    if isinstance(value, torch.Tensor):
        data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.ndim else repr(value.item())
        return hashlib.sha256(f"{value.dtype} {(*value.shape,)}".encode() + str(data).encode()).hexdigest()
    if isinstance(value, dict):
        return hashlib.sha256(repr([(key, digest(inner)) for key, inner in value.items()]).encode()).hexdigest()
    if isinstance(value, list | tuple):
        return hashlib.sha256(repr([digest(inner) for inner in value]).encode()).hexdigest()
    return repr(value)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run came to, but for times."""
    last = load(folder / "checkpoints" / "last.ckpt")
    timed = ("train/seconds", "train/images_per_second", "cost/latency_ms", "cost/megapixels_per_second")
    table = list(csv.DictReader((folder / "metrics.csv").open()))
    return {
        **{part: digest(last[part]) for part in ("state_dict", "optimizer_states", "lr_schedulers", "losses")},
        "axis": last["loops"]["fit_loop"]["epoch_loop.state_dict"],
        "best": digest(load(folder / "checkpoints" / "best.ckpt")["state_dict"]),
        "metrics": {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if k not in timed},
        "table": [{k: v for k, v in row.items() if k != "seconds"} for row in table],
        "images": (folder / "per_image.csv").read_text(),
    }


# Cases of one kind; the others have one each.
ALIKE = {
    "schedule by metric", "accumulation", "validation within the epoch", "validation every other epoch",
    "validation counted over epochs", "without validation",
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in ALIKE else case for case in CASES]
)
def test_a_stopped_run_goes_on_exactly(case: str, compose: Compose, stop: Stop, tmp_path: Path) -> None:
    config = compose(*QUICK, *CASES[case])
    train(config, tmp_path / "whole", {})
    expected = outcome(tmp_path / "whole")
    # Before the last step of an epoch, before the first of the next; then once more, in the midst of one.
    for place in (1, 3) if case == "accumulation" else (5, 6):
        folder = tmp_path / str(place)
        stop.after = place
        with pytest.raises(Interrupted):
            train(config, folder, {})
        assert json.loads((folder / "environment.json").read_text())["status"] == "interrupted"
        stop.after = 2
        with pytest.raises(Interrupted):
            train({**config, "resume": str(folder)}, folder, {})
        train({**config, "resume": str(folder)}, folder, {})
        found = outcome(folder)
        for part, value in expected.items():
            assert found[part] == value, f"{part}, stopped before step {place}"


# What is torn, killed or refused -----------------------------------------------------------------------------------


@pytest.fixture
def stopped(compose: Compose, stop: Stop, tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A run that stopped in its second epoch, having written checkpoints before."""
    config = compose(*QUICK, "model=autoencoder", "checkpoint.steps=2")
    stop.after = 9
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {})
    return {**config, "resume": str(tmp_path / "run")}, tmp_path / "run"


@pytest.mark.parametrize("damage", ["torn", "changed", "empty", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    damage: str, stopped: tuple[dict[str, Any], Path], compose: Compose, tmp_path: Path, capfd: Any
) -> None:
    config, folder = stopped
    last = folder / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    middle = len(content) // 2
    changed = {
        "torn": content[:middle],
        "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
    }
    if damage == "missing":  # as after a kill between the two renames
        last.unlink()
    else:
        last.write_bytes(changed[damage])
    train(config, folder, {})
    output = capfd.readouterr().out
    assert (damage == "missing") != ("last.ckpt is damaged" in output)
    assert "continuing from" in output
    assert "previous.ckpt" in output
    train({**config, "resume": None}, tmp_path / "whole", {})
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_only_damaged_checkpoints_are_one_sentence(stopped: tuple[dict[str, Any], Path]) -> None:
    config, folder = stopped
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / "checkpoints" / name).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"resume: no checkpoint in .* is whole"):
        train(config, folder, {})


def test_a_run_without_a_checkpoint_starts_again(compose: Compose, stop: Stop, tmp_path: Path, capfd: Any) -> None:
    config = compose(*QUICK, "model=autoencoder")
    train(config, tmp_path / "whole", {})
    stop.after = 0
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {})
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "last.ckpt.tmp.12").write_bytes(b"half")
    (tmp_path / "run" / "notes").mkdir()
    own = [tmp_path / "run" / "notes" / "thesis.tmp.docx", tmp_path / "run" / "thesis.tmp.2024"]
    for path in own:
        path.write_text("mine")
    train({**config, "resume": str(tmp_path / "run")}, tmp_path / "run", {})
    assert "there is no checkpoint yet; starting from the beginning" in capfd.readouterr().out
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert sorted(tmp_path.rglob("*.tmp.*")) == own


def test_what_a_kill_left_before_the_first_record_is_removed(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "config.yaml.tmp.12").write_text("half")
    train(compose(*QUICK, "trainer.max_epochs=1", "model=autoencoder"), tmp_path, {})
    assert not list(tmp_path.glob("*.tmp.*"))


def test_ctrl_c_before_anything_is_saved_says_so_and_leaves_nothing(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.data.datamodule.DataModule.load", lambda _: signal.raise_signal(signal.SIGINT))
    status, _, errors = typed("model=autoencoder", *QUICK)
    assert (status, errors) == (130, "error: interrupted; nothing was saved yet\n")
    assert not list(typed.tmp_path.glob("outputs/*"))


def test_more_epochs_end_as_if_they_had_been_asked_for_at_once(compose: Compose, tmp_path: Path) -> None:
    words = (*QUICK, "model=classifier", "scheduler=constant")
    shorter, longer = compose(*words), compose(*words, "trainer.max_epochs=5")
    train(longer, tmp_path / "whole", {})
    train(shorter, tmp_path / "run", {})
    train({**longer, "resume": str(tmp_path / "run")}, tmp_path / "run", {})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


# All that ends a training. The learning rate of 0 makes early stopping certain, and a longer training another table.
EARLY = ("trainer.max_epochs=9", "early_stopping=1", "optimizer.lr=0")
ENDINGS = {
    "epochs": [],
    "early stopping": EARLY,
    "early stopping within the epoch": [*EARLY, "trainer.val_check_interval=2"],
    "early stopping that has to wait": [*EARLY, "+trainer.min_epochs=4"],
    "steps": ["trainer.max_epochs=9", "trainer.max_steps=9"],
    "steps at the end of an epoch": ["trainer.max_epochs=9", "trainer.max_steps=12"],
    "time": ["trainer.max_epochs=9", "trainer.max_time=00:00:00:09"],
}
# What may be cut off once a training is about to end, in order.
PHASES = (
    "recon.modules.base.Module.on_validation_epoch_end",
    "recon.training.epochs.EpochTable.on_train_epoch_end",
    "recon.training.checkpoints.Checkpoints.on_train_end",
    "recon.actions.train.load_weights",
    "recon.actions.train.test",
    "recon.runs.record._Record.metrics",
)


class Cut:
    """Let Ctrl-C end the run at the n-th call of a function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: Iterable[str]) -> None:
        self.calls: Counter[str] = Counter()
        self.at: tuple[str, int] | None = None
        for name in names:
            monkeypatch.setattr(name, self._counted(name, pkgutil.resolve_name(name)))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.calls[name] += 1
            if self.at == (name, self.calls[name]):
                raise Interrupted(signal.SIGINT)
            return function(*arguments, **more)

        return call


@pytest.mark.parametrize(
    "ending",
    [each if each in ("early stopping", "steps", "time") else pytest.param(each, marks=pytest.mark.slow)
     for each in ENDINGS],
)  # fmt: skip
def test_a_run_cut_off_when_its_training_had_ended_trains_no_further(
    ending: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole, folder = compose(*QUICK, "model=autoencoder", *ENDINGS[ending]), tmp_path / "whole", tmp_path / "run"
    clock, timed = SimpleNamespace(now=0.0), Timer.on_train_batch_end

    def step(*arguments: Any) -> None:  # each takes a second
        clock.now += 1
        timed(*arguments)

    monkeypatch.setattr(Timer, "on_train_batch_end", step)
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", SimpleNamespace(monotonic=lambda: clock.now))
    cut = Cut(monkeypatch, PHASES)
    train(config, whole, {})
    validations = cut.calls[PHASES[0]]
    for phase in PHASES:
        # The last validation of the training, before that of the best weights; all else is met once more.
        cut.calls.clear()
        cut.at = (phase, validations - 1 if phase == PHASES[0] else 1)
        with pytest.raises(Interrupted):
            train({**config, "resume": str(folder) if folder.exists() else None}, folder, {})
        assert json.loads((folder / "environment.json").read_text())["status"] == "interrupted"
    train({**config, "resume": str(folder)}, folder, {})
    assert outcome(folder) == outcome(whole)


def test_what_would_change_the_result_is_refused(typed: Typed) -> None:
    quick = [word for word in QUICK if "max_epochs" not in word]
    words = ["model=classifier", "scheduler=constant", "trainer.max_epochs=1", *quick]
    assert typed("hydra.run.dir=run", *words)[0] == 0
    assert "has ended; raise trainer.max_epochs" in typed.refused("resume=run")
    assert typed("hydra.run.dir=cycle", "model=classifier", "trainer.max_epochs=1", *quick)[0] == 0
    assert "has ended; start a new run with init_from=" in typed.refused("resume=cycle")
    refused = {
        "optimizer.lr=0.5": ["optimizer.lr: ", "there it is 0.001", "init_from=/"],
        "optimizer=sgd": ["optimizer: ", "torch.optim.Adam"],
        "model.net.dropout=0.5": ["model.net.dropout", "there it is 0.3"],
        "trainer.devices=2": ["trainer.devices", "there it is 1"],
        "task.batch_size=32": ["task.batch_size", "there it is 16"],
        "seed=4": ["seed", "there it is 0"],
        "trainer.max_steps=99": ["trainer.max_steps", "there it is -1"],
        "trainer.max_epochs=0": ["trainer.max_epochs: nothing would be trained with 0"],
    }
    for word, parts in refused.items():
        sentence = typed.refused("resume=run", word)
        assert all(part in sentence for part in parts), sentence
    status, output, errors = typed("resume=run", "trainer.max_epochs=2", "logger=csv", "optimizer.lr=0.001")
    assert status == 0, errors
    assert "continuing from" in output
    environment = json.loads((typed.tmp_path / "run" / "environment.json").read_text())
    assert len(environment["resumed"]) == 1
    assert "model=classifier" in environment["command"]
    assert environment["resumed"][0]["command"][1] == "resume=run"
    assert len((typed.tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3
    assert (typed.tmp_path / "run" / "csv" / "metrics.csv").exists()
    assert "holds a run already" in typed.refused("model=classifier", "hydra.run.dir=run", *quick)
    assert "no run folder" in typed.refused("resume=nowhere")


def test_a_schedule_that_spans_the_training_has_one_length(typed: Typed) -> None:
    quick = [word for word in QUICK if "max_epochs" not in word]
    assert typed("model=classifier", "scheduler=cosine", "trainer.max_epochs=1", "hydra.run.dir=run", *quick)[0] == 0
    assert "CosineAnnealingLR spans the whole training" in typed.refused("resume=run", "trainer.max_epochs=2")


def test_more_epochs_of_a_run_that_stopped_early_are_refused(typed: Typed) -> None:
    words = ["model=classifier", "early_stopping=1", "optimizer=sgd", "optimizer.lr=1e-9", "scheduler=constant"]
    assert typed(*QUICK, *words, "trainer.max_epochs=9", "hydra.run.dir=run")[0] == 0
    assert "has ended; start a new run with init_from=" in typed.refused("resume=run")
    assert "ended after 2 of 9 epochs" in typed.refused("resume=run", "trainer.max_epochs=10")
    assert "trainer.max_epochs: 'ten' is not allowed" in typed.refused("resume=run", "trainer.max_epochs=ten")


def test_a_new_run_starts_from_the_weights_of_another(typed: Typed) -> None:
    quick = [word for word in QUICK if "max_epochs" not in word]
    assert typed("model=autoencoder", "trainer.max_epochs=1", "hydra.run.dir=first", *quick)[0] == 0
    words = ["model=autoencoder", "trainer.max_epochs=1", "optimizer=sgd", "optimizer.lr=0", *quick]
    assert typed("init_from=first", "hydra.run.dir=second", *words)[0] == 0
    first, second = (load(typed.tmp_path / name / "checkpoints" / "best.ckpt") for name in ("first", "second"))
    assert digest(first["state_dict"]) == digest(second["state_dict"])
    sentence = typed.refused("init_from=first", "model=classifier", "trainer.max_epochs=1", *quick)
    assert sentence.startswith("error: init_from: the weights in")


def test_two_processes_never_work_in_one_folder(stopped: tuple[dict[str, Any], Path]) -> None:
    config, folder = stopped
    code = (
        "import time\nfrom pathlib import Path\nfrom recon.runs import locked\n"
        f"with locked(Path({str(folder)!r})):\n    print('in', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match="resume: another process is at work in"):
            train(config, folder, {})
        with pytest.raises(InputError, match=r"hydra\.run\.dir: another process is at work in"):
            train({**config, "resume": None}, folder, {})
        other.kill()
    train(config, folder, {})


def test_a_full_disk_ends_the_run_and_keeps_what_was_there(
    stopped: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, folder = stopped
    before = digest(load(folder / "checkpoints" / "last.ckpt"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("recon.runs.files.os.fsync", full)
        with pytest.raises(InputError, match=f"the disk is full: .* resume the run with resume={folder}, "):
            train(config, folder, {})
    assert digest(load(folder / "checkpoints" / "last.ckpt")) == before
    train(config, folder, {})
    train({**config, "resume": None}, tmp_path / "whole", {})
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_a_word_of_a_key_is_the_key(compose: Compose) -> None:
    index = torch.tensor([0, 1, 12345, 2**40])
    keys = keyed.keys(3, "net", 2, index)
    assert [keyed.word(3, "net", 2, int(i)) for i in index] == [int(key) % 2**64 for key in keys]
