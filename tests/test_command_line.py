"""`python run.py` as it is typed: what answers at once, what is refused in one sentence, what is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, Typed, choices, type_in
from PIL import Image
from sklearn.datasets import load_digits

import recon
from recon.runs import RunFolder


def folder_of(output: str) -> Path:
    last = output.strip().splitlines()[-1]
    assert last.startswith("run: ")
    return Path(last.removeprefix("run: "))


# What answers at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [["--help"], ["--version"], ["--cfg", "job"], ["-sc", "query=bash"]])
def test_quick_answers_do_not_import_torch(question: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['run.py', *{question!r}]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as exit_: assert not exit_.code, exit_.code\n"
        "found = {'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules); assert not found, found\n"
    )
    environment = {**os.environ, "COMP_LINE": "python run.py model=", "COMP_POINT": "20"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)


def test_without_its_packages_it_says_how_to_get_them() -> None:
    done = subprocess.run([sys.executable, "-S", "run.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    wanted = "is not installed for this Python; `make setup`, then `source .venv/bin/activate`"
    assert re.fullmatch(rf"error: \w+ {wanted}\n", done.stderr)


def test_the_version_is_that_of_recon(typed: Typed) -> None:
    assert typed("--version") == (0, f"recon {recon.__version__}\n", "")


def test_help_lists_every_choice_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from recon.config.help import help_text

    text = help_text([ROOT / "conf"])
    for path in (ROOT / "conf").rglob("*/*.yaml"):
        lines = [line for line in text.splitlines() if line[2:].startswith(f"{path.stem} ")]
        assert any(len(line) > 30 for line in lines), f"{path} has no line of its own"
    assert " *inpainting" in text


def test_tab_completion_knows_the_choices() -> None:
    line = "python run.py model="
    answer = type_in("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert {f"model={model}" for model in choices("model")} <= set(answer.stdout.split())


def test_tab_completion_knows_the_runs_and_own_choices(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kept in {"1_gan_mnist": "best", "2_gan_mnist": "last", "3_vae": "", "4_$(touch x)": "last"}.items():
        folder = Path("outputs/2026-01-01") / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "environment.json").write_text("{}")
        if kept:
            (folder / "checkpoints" / f"{kept}.ckpt").touch()
    own = Path("own/degradation/rain.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("amount: 1\n")

    def answers(line: str) -> set[str]:
        monkeypatch.setenv("COMP_LINE", f"python run.py {line}")
        status, output, errors = typed("-sc", "query=bash")
        assert (status, errors) == (0, "")
        return set(output.split())

    day = "outputs/2026-01-01"
    assert answers("action=evaluate run=") == {
        "run=last", "run=best", "run=1_gan_mnist", "run=2_gan_mnist", f"run={day}/1_gan_mnist", f"run={day}/2_gan_mnist"
    }  # fmt: skip
    assert answers("resume=") == {"resume=last", "resume=best", "resume=gan_mnist", f"resume={day}/2_gan_mnist"}
    assert answers("action=list runs=3") == set()
    assert answers(f"action=list runs={day}/3") == {f"runs={day}/3_vae"}
    assert answers("action=list runs=v") == {"runs=vae"}
    assert "degradation=rain" in answers("--config-dir own model=gan degradation=")
    assert answers("--config-dir=own degradation=ra") == {"degradation=rain"}
    assert answers("action=pr") == {"action=project", "action=prune"}


def test_the_whole_configuration_is_shown(typed: Typed) -> None:
    status, output, _ = typed("model=gan", "task=mnist", "trainer.devices=2", "--cfg", "job")
    assert status == 0
    assert "recon.modules.gan.GANModule" in output
    assert "devices: 2" in output


# What a run leaves behind ------------------------------------------------------------------------------------------


def test_a_run_leaves_its_record(typed: Typed) -> None:
    status, output, _ = typed("model=inpainting", "seed=3", *QUICK)
    assert status == 0
    folder = folder_of(output)
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "environment.json", "metrics.json", "metrics.csv", "per_image.csv", "images", "checkpoints",
    }  # fmt: skip
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("test/psnr", "test/psnr_degraded", "test/ssim", "test/psnr_hole", "test/psnr_hole_mean", "test/mse",
                 "val/psnr", "train/seconds", "train/images_per_second"):  # fmt: skip
        assert isinstance(metrics[name], float), name
    assert "mean over images" in metrics["convention"]["psnr"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["status"] == "ok"
    assert environment["choices"]["model"] == "inpainting"
    assert "seed=3" in environment["overrides"]
    assert "test/psnr" not in output  # the table has a row for psnr and a column for test
    assert "psnr_hole" in output
    with Image.open(folder / "images" / "test.png") as picture:
        assert picture.width > 100


def test_evaluation_reproduces_the_numbers_and_takes_other_damage(typed: Typed) -> None:
    _, output, _ = typed("model=restoration", "degradation=noise", "degradation.sigma=0.2", *QUICK)
    trained = folder_of(output)
    before = json.loads((trained / "metrics.json").read_text())
    limit = ("trainer.limit_test_batches=1", "trainer.enable_progress_bar=false", "logger=none")

    status, output, _ = typed("action=evaluate", f"run={trained}", *limit)
    assert status == 0
    again = json.loads((folder_of(output) / "metrics.json").read_text())
    tested = {name: value for name, value in before.items() if name.startswith("test/")}
    assert tested == {name: value for name, value in again.items() if name.startswith("test/")}

    _, output, _ = typed("action=evaluate", f"run={trained}", "degradation.sigma=0.2", *limit)
    assert json.loads((folder_of(output) / "metrics.json").read_text())["test/psnr"] == before["test/psnr"]

    _, output, _ = typed("action=evaluate", f"run={trained}", "degradation=noise", "degradation.sigma=0.5", *limit)
    noisier = json.loads((folder_of(output) / "metrics.json").read_text())
    assert noisier["test/psnr_degraded"] < before["test/psnr_degraded"] - 5

    _, output, _ = typed("action=evaluate", f"run={trained}", "degradation=blur", *limit)
    assert (
        "sigma: 1.5" in (folder_of(output) / "config.yaml").read_text()
        or "GaussianBlur" in (folder_of(output) / "config.yaml").read_text()
    )


def test_a_run_is_named_by_the_end_of_its_folder(typed: Typed) -> None:
    first, second = (
        folder_of(typed("model=autoencoder", f"seed={seed}", "trainer.max_epochs=1", *QUICK)[1]) for seed in (1, 2)
    )
    limit = ("trainer.limit_test_batches=1", "trainer.enable_progress_bar=false", "logger=none")
    better, worse = sorted((first, second), key=lambda folder: RunFolder(folder).metrics["test/psnr"], reverse=True)
    names = {
        "last": second, first.name: first, f"{second.parent.name}/{second.name}": second, "best": better,
        f"best:seed:{1 if worse == first else 2}+task:digits": worse, "last:seed:1": first,
    }  # fmt: skip
    for name, meant in names.items():
        status, output, errors = typed("action=evaluate", f"run={name}", *limit)
        assert status == 0, errors
        assert f"run: {meant}\n" in (folder_of(output) / "config.yaml").read_text()
    # The evaluations since hold no weights.
    assert typed.refused("resume=last", *QUICK).startswith(f"error: resume: {second} has ended")
    sentence = typed.refused("action=evaluate", "run=_digits", *limit)
    assert "run: _digits is part of 2 run folders" in sentence
    assert first.name in sentence
    assert "a unique ending of that, run=last or" in typed.refused("action=evaluate", "run=_gan", *limit)
    assert "no run with seed:3 below outputs/ has weights" in typed.refused("action=evaluate", "run=best:seed:3")
    assert "run: gan is no condition" in typed.refused("action=evaluate", "run=best:gan")
    _, output, _ = typed("model=autoencoder", "init_from=last", "trainer.max_epochs=1", *QUICK)
    assert f"init_from: {second}\n" in (folder_of(output) / "config.yaml").read_text()
    typed("model=autoencoder", "degradation=noise", "trainer.max_epochs=1", *QUICK)
    sentence = typed.refused("action=evaluate", "run=best", *limit)
    assert "run: the best of which? test/psnr on digits, " in sentence
    assert "were measured on different images and cannot be compared" in sentence
    assert "run=best:task:digits+degradation:" in sentence
    _, output, _ = typed("action=list", f"runs={first.name}")
    assert "1 of 1 runs" in output


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("model=restoration model/net=dncnn degradation=noise degradation.sigma=0.098 task=folder",
         "restoration_dncnn_noise0.098_folder"),
        ("model=restoration degradation=noise degradation.sigma=[0,0.5]", "restoration_unet_noise0-0.5_digits"),
        ("model=restoration degradation=noise degradation.sigma=25/255", "restoration_unet_noise0.098_digits"),
        ("model=classifier", "classifier_cnn_digits"),
        ("model=inpainting degradation=mixed task=mnist", "inpainting_unet_mixed_mnist"),
        ("degradation=jpeg action=evaluate", "evaluate_inpainting_unet_jpeg20_digits"),
    ],
)  # fmt: skip
def test_the_folder_of_a_run_tells_what_it_is(words: str, name: str, typed: Typed) -> None:
    status, output, _ = typed(*words.split(), "--cfg", "all", "--resolve")
    assert status == 0
    (folder,) = [line.strip() for line in output.splitlines() if line.strip().startswith("dir: outputs/20")][:1]
    assert re.fullmatch(rf"dir: outputs/[\d-]+/[\d-]+_{name}", folder)


def test_a_generator_is_judged_by_a_classifier(typed: Typed) -> None:
    _, output, _ = typed("model=classifier", *QUICK)
    _, output, _ = typed("model=gan", f"model.judge={folder_of(output)}", *QUICK)
    metrics = json.loads((folder_of(output) / "metrics.json").read_text())
    assert 0 <= metrics["test/recognised"] <= 1
    assert 1 <= metrics["test/classes"] <= 10


RESTORE = ["model=restoration"]


# What is refused in one sentence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model=unknown"], ["model=unknown", "inpainting|restoration"]),
        (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean trainer.max_epochs?"]),
        (["+trainer.max_epoch=3"], ["trainer.max_epoch", "max_epochs"]),
        (["+model.net.wdiths=3"], ["model.net.wdiths", "widths"]),
        (["+experimnet=1"], ["experimnet"]),
        (["trainer.max_epochs=abc"], ["trainer"]),
        (["model"], ["model"]),
        (["seed=abc"], ["seed", "abc", "a whole number"]),
        (["early_stopping=soon"], ["early_stopping", "soon"]),
        (["model.beta=abc", "model=vae"], ["model.beta", "abc", "a number"]),
        (["accelerator.compile=maybe"], ["accelerator.compile", "maybe"]),
        (["logger=paper"], ["logger=paper", "tensorboard"]),
        (["-m", "model=inpainting,unknown"], ["model=unknown", "inpainting"]),
        (
            ["action=fly"],
            [
                "action=fly",
                "cost|curve|decompress|embed|evaluate|explain|export|generate|list|project|prune|rates",
            ],
        ),
        (["model=classifier", "task=photos"], ["model=classifier", "labels", "task="]),
        (["model=inpainting", "degradation=noise"], ["model=inpainting", "degradation=missing"]),
        (["trainer.devices=2", "task.batch_size=63", "accelerator=cpu"], ["task.batch_size", "63", "64"]),
        (["degradation=noise", "model=restoration", "degradation.sigma=-1"], ["sigma", "-1"]),
        (["model=gan", "model.loss=unknown"], ["unknown", "hinge"]),
        (["model=gan", "trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches"]),
        (["task=mnist", "task.crop=2"], ["model.net", "2x2", "crops"]),
        (["+model.net._target_=torch.load", "model=classifier"], ["_target_"]),
        (["model.net._target_=torch.load"], ["model.net._target_", "torch.load", "RECON_TRUST"]),
        (["model.net._target_=pathlib.Path.write_text"], ["pathlib.Path.write_text", "RECON_TRUST"]),
        (["model.net._target_=torch.hub.load"], ["torch.hub.load", "RECON_TRUST"]),
        (["model.net._target_=torch.nn.modules.module.torch.load"], ["torch.nn.modules.module.torch.load"]),
        (["model.net._target_=recon.runs.files.write_text"], ["recon.runs.files.write_text"]),
        (["model.net._target_=recon.nets.unet.Unet"], ["recon.nets.unet.Unet"]),
        (["action=evaluate"], ["run="]),
        (["action=evaluate", "run=nowhere"], ["nowhere", "is no run folder"]),
        (["accelerator=gpu"], ["trainer", "accelerator"]),
        (["task=folder", "task.path=nowhere"], ["nowhere", "task.path"]),
        (["task=folder"], ["task.path"]),
        ([*RESTORE, "degradation=jpeg", "degradation.quality=0"], ["degradation", "quality", "1", "100"]),
        ([*RESTORE, "degradation=box_blur", "degradation.size=4"], ["degradation", "size", "odd"]),
        ([*RESTORE, "degradation=missing_file"], ["degradation.path"]),
        ([*RESTORE, "degradation=missing_file", "degradation.path=nowhere"], ["path", "nowhere"]),
        ([*RESTORE, "degradation=file", "degradation.path=nowhere"], ["degradation=file", "task=folder"]),
        ([*RESTORE, "degradation=downsample", "degradation.upsample=null"], ["edsr", "degradation.upsample=bicubic"]),
        ([*RESTORE, "degradation=downsample", "degradation.scale=1.5"], ["degradation", "scale"]),
        ([*RESTORE, "degradation=missing", "degradation.fraction=1.5"], ["fraction", "1.5"]),
        ([*RESTORE, "data.store=mmap"], ["data.store=mmap", "task=folder"]),
        ([*RESTORE, "data.store=disk"], ["data.store", "disk", "mmap"]),
        ([*RESTORE, "task=webdataset", "task.path=pipe:ls"], ["task.path", "pipe"]),
        ([*RESTORE, "task=webdataset", "task.path=nowhere.tar"], ["task.path", "nowhere.tar"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_told_in_one_sentence(arguments: list[str], named: list[str], typed: Typed) -> None:
    import torch

    if arguments == ["accelerator=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU, so accelerator=gpu is no mistake")
    sentence = typed.refused(*arguments)
    for word in named:
        assert word in sentence
    # Hydra itself notes what a sweep was asked for.
    left = [path for path in typed.tmp_path.glob("outputs/*/*") if not path.name.endswith("_sweep")]
    assert not left, "a run that was not begun left a folder"


@pytest.mark.parametrize(
    ("net", "side"), [("lenet", 3), ("dcgan", 3), ("unet", 2), ("resnet18", 2)]
)  # fmt: skip
def test_an_image_too_small_for_a_net_is_refused(net: str, side: int, typed: Typed) -> None:
    model = {"dcgan": "gan", "unet": "restoration"}.get(net, "classifier")
    sentence = typed.refused(f"model={model}", f"model/net={net}", f"task.crop={side}", *QUICK)
    assert f"{side}x{side}" in sentence


def folder_with_a_bad_image(folder: Path, kind: str) -> Path:
    """Save real digits and one bad file."""
    folder.mkdir()
    for place, image in enumerate(load_digits().images[:30]):
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{place:02d}.png")
    bad = folder / "bad.png"
    if kind == "empty":
        bad.write_bytes(b"")
    elif kind == "truncated":
        bad.write_bytes((folder / "00.png").read_bytes()[:60])
    elif kind == "unreadable":
        bad.write_text("this is no image")
    else:
        Image.new("1", (10000, 10000)).save(bad)
    return bad


@pytest.mark.parametrize("kind", ["empty", "truncated", "unreadable", "bomb"])
def test_a_bad_image_is_named_and_can_be_skipped(kind: str, typed: Typed, tmp_path: Path) -> None:
    bad = folder_with_a_bad_image(tmp_path / "images", kind)
    chosen = ("model=restoration", "task=folder", f"task.path={bad.parent}")
    sentence = typed.refused(*chosen, *QUICK)
    assert str(bad) in sentence
    assert "task." in sentence
    with pytest.warns(UserWarning, match="bad.png"):
        status, _, errors = typed(*chosen, *QUICK, "task.on_bad_image=skip")
    assert status == 0, errors


def test_a_missing_data_set_without_network_is_one_sentence(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.data.tasks.mnist import MNIST

    # Ports of this machine that nothing listens on stand for a network that is not there.
    monkeypatch.setattr(MNIST, "urls", ["http://127.0.0.1:9/"])
    sentence = typed.refused("model=classifier", "task=mnist", f"data.root={tmp_path / 'data'}", *QUICK)
    assert "data.root" in sentence
    assert "127.0.0.1" in sentence


def test_a_loss_that_is_not_finite_ends_the_run_with_status_2(typed: Typed) -> None:
    quick = [word for word in QUICK if "max_steps" not in word]
    sentence = typed.refused("model=restoration", "optimizer=sgd", "optimizer.lr=1e20", "trainer.max_epochs=2", *quick)
    assert "step" in sentence
    assert "learning rate" in sentence
    (folder,) = typed.tmp_path.glob("outputs/*/*")
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["status"] == "failed"
    assert "not finite" in environment["error"]


def test_ctrl_c_ends_a_run_with_a_record_of_it(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), f"hydra.run.dir={tmp_path}/run", "trainer.max_epochs=100000"]
    command += ["logger=none", "trainer.enable_progress_bar=false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 100
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "error: interrupted; the checkpoints so far are kept"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_early_stopping_ends_a_run_that_does_not_improve(typed: Typed) -> None:
    quick = [word for word in QUICK if "max_steps" not in word]
    status, output, _ = typed(
        "model=classifier", "optimizer=sgd", "optimizer.lr=1e-9", "early_stopping=2", "trainer.max_epochs=9",
        "trainer.limit_train_batches=1", *quick,
    )  # fmt: skip
    assert status == 0
    assert len((folder_of(output) / "metrics.csv").read_text().splitlines()) == 1 + 3
