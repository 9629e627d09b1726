"""Wrong commands: one sentence that names the key and a remedy, exit status 2, nothing left behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, Typed

TYPES = ("abc", "[]", "{a: 1}", "[x]")  # of a number
NUMBERS = ("-1", "nan", "-0.5")
# Every key by what it must not be; a key in the sentence may be that of its node.
KEYS = {
    "seed": (*TYPES, *NUMBERS, "null", "true", "4294967296", "1e300"),
    "early_stopping": (*TYPES, *NUMBERS, "0", "true"),
    "checkpoint.minutes": (*TYPES, *NUMBERS, "0", "true"),
    "checkpoint.steps": (*TYPES, *NUMBERS, "0", "1.5"),
    "data.root": ("5", "null", "[]", "{}"),
    "data.store": ("5", "disk", "null"),
    "data.cache": ("5", "null", "[]"),
    "logger.kind": ("5", "nope", "null"),
    "logger.tags": ("5", "x", "null"),
    "allow_network": ("5", "x", "null"),
    "accelerator.channels_last": ("5", "x", "null"),
    "accelerator.compile": ("5", "x", "null"),
    "trainer.accelerator": ("5", "nope", "tpu", "[]", "null"),
    "trainer.devices": ("0", "-2", "abc", "null", "{a: 1}", "1.5", "true"),
    "trainer.num_nodes": ("0", "-1", "2", "abc", "null", "1.5"),
    "trainer.strategy": ("5", "nope", "fsdp", "[]", "null"),
    "trainer.precision": ("5", "nope", "8-true", "[]"),
    "trainer.max_epochs": ("0", "-2", "abc", "1.5", "[]", "nan"),
    "trainer.max_steps": ("0", "-2", "abc", "1.5", "[]", "null"),
    "trainer.max_time": ("60", "abc", "00:00:00:00", "[]", "-1"),
    "trainer.limit_train_batches": ("0", "-1", "1.5", "abc", "nan", "0.0001"),
    "trainer.limit_val_batches": ("-1", "1.5", "abc", "nan", "0.0001"),
    "trainer.limit_test_batches": ("0", "-1", "1.5", "abc", "nan", "0.0001"),
    "trainer.check_val_every_n_epoch": ("0", "-1", "abc", "1.5"),
    "trainer.val_check_interval": ("0", "-1", "abc", "nan", "1.5", "1000000"),
    "trainer.gradient_clip_val": ("-1", "abc", "nan", "[]"),
    "trainer.accumulate_grad_batches": ("0", "-1", "abc", "1.5", "null"),
    "trainer.log_every_n_steps": ("-1", "abc", "1.5", "null"),
    "trainer.deterministic": ("5", "abc"),
    "trainer.enable_progress_bar": ("5", "abc", "null"),
    "optimizer.lr": (*TYPES, *NUMBERS, "inf", "null"),
    "optimizer.betas": ("[2,3]", "[0.9]", "[-1,0]", "abc", "5", "[0.9,nan]"),
    "optimizer.weight_decay": (*TYPES, *NUMBERS, "null"),
    "task.batch_size": (*TYPES, *NUMBERS, "0", "1.5", "null"),
    "task.epochs": (*TYPES, *NUMBERS, "1.5", "null"),
    "task.validation": ("-1", "0", "nan", "abc", "1000000", "null"),
    "model.l1": (*TYPES, *NUMBERS, "null"),
    "model.ema": (*TYPES, *NUMBERS, "1", "2", "null"),
    "model.label_smoothing": (*TYPES, *NUMBERS, "5", "null"),
}
OTHERS = [
    ("experiment=mnist_cnnn", "experiment"),
    ("experiment=MNIST_CNN", "experiment"),
    ("model=gann", "model"),
    ("model=", "model"),
    ("task=/dir", "task"),
    ("model==gan", "model"),
    ("model", "model"),
    ("~model", "~model"),
    ("~trainer.devices", "trainer.devices"),
    ("modell=gan", "modell"),
    ("lr=0.1", "optimizer.lr"),
    ("batch_size=3", "task.batch_size"),
    ("trainer.epochs=3", "trainer.max_epochs"),
    ("model.net=unet", "model/net=unet"),
    ("optimizer.learning_rate=1", "optimizer.lr"),
    ("model.net.channels=3", "model.net.channels"),
    ("+trainer.max_epoch=3", "trainer.max_epoch"),
    ("+nope=1", "nope"),
    ("resume=", "resume"),
    ("resume=''", "resume"),
    ("resume=/nowhere", "resume"),
    ("run=/nowhere", "run"),
    ("init_from=", "init_from"),
    ("init_from=/nowhere", "init_from"),
    ("action=nope", "action=nope"),
    ("action=evaluate", "run"),
    ("action=evaluate run=", "run"),
    ("action=evaluate run=[a,b]", "run"),
    ("action=list model=gan", "model"),
    ("action=list seed=2", "seed"),
    ("list.sort=x", "list.sort"),
    ("runs=x", "runs"),
    ("action=list list.filter=5", "list.filter"),
    ("action=list list.sort=null", "list.sort"),
    ("action=list list.columns=5", "list.columns"),
    ("action=list list.columns=[]", "list.columns"),
    ("action=list runs=/nowhere", "runs"),
    ("hydra.run.dir=/proc/x", "hydra.run.dir"),
    ("--nope", "--nope"),
    ("--cfg jobb", "--cfg"),
    ("task.path=/a=b", "task.path"),
    ("task.path=/x[1]", "task.path"),
    ("task.path=it's", "task.path"),
    ("task=folder task.path=/nowhere", "task.path"),
    ("sweep=optuna", "sweep"),
    ("scheduler=step scheduler.step_size=0", "scheduler.step_size"),
    ("scheduler=step scheduler.gamma=nan", "scheduler.gamma"),
    ("scheduler=one_cycle scheduler.pct_start=3", "scheduler.pct_start"),
    ("scheduler=cosine trainer.max_epochs=-1 trainer.max_time=00:00:00:03", "scheduler"),
    ("model=vae model/net=unet", "model"),
    ("model=gan model/net=unet", "model"),
    ("model=autoencoder model/net=unet", "model"),
    ("model=restoration model/net=dcgan", "model"),
    ("model=classifier model/net=unet", "model"),
    ("model=gan model.judge=/nowhere", "model.judge"),
    ("model=gan model.discriminator_steps=0", "model.discriminator_steps"),
    ("model=inpainting degradation=noise", "degradation"),
    ("degradation=noise degradation.sigma=25", "0.098"),
    ("degradation=noise degradation.sigma=[0.5,0.1]", "sigma"),
    ("degradation=blur degradation.sigma=1e9", "sigma"),
    ("degradation=motion_blur degradation.length=1e9", "length"),
    ("degradation=jpeg degradation.quality=0", "quality"),
    ("model=restoration degradation=downsample degradation.scale=100", "scale"),
    ("degradation.sigma=0.3", "degradation"),
    ("augment=rotate augment.rotate=999", "augment.rotate"),
    ("degradation._target_=os.system", "degradation._target_"),
    ("model.net._target_=torch.load", "model.net._target_"),
    ("optimizer._target_=torch.nn.Linear", "optimizer._target_"),
    ("augment._target_=5", "augment._target_"),
    ("data.store=mmap task=mnist", "data.store"),
]
# What a newcomer types, and what the one sentence says to type instead.
NEWCOMERS = {
    "lr=0.001": "did you mean optimizer.lr?",
    "batch_size=32": "did you mean task.batch_size?",
    "epochs=3": "did you mean trainer.max_epochs?",
    "gpus=1": "did you mean trainer.devices?",
    "device=cuda": "did you mean accelerator=gpu?",
    "sigma=25": "did you mean degradation.sigma?",
    "net=unet": "did you mean model/net=unet?",
    "loss=l1": "did you mean model/loss=l1?",
    "dataset=mnist": "did you mean task=mnist?",
    "wandb=true": "did you mean logger=wandb?",
    "model.width=32": "did you mean model.net.width?",
    "model=resnet18": "did you mean model/net=resnet18?",
    "model=UNet": "did you mean model/net=unet?",
    "task=MNIST": "did you mean task=mnist?",
    "task=cifar": "did you mean task=cifar10?",
    "task=/my/images": "write task=folder task.path=/my/images",
    "task=~/images": "write task=folder task.path=",
    "task.path=photo.jpg": "choose task=bsd400|folder|open_photos|webdataset",
    "data=mnist": "set its keys one by one, as data.<key>=<value>",
    "optimizer=AdamW": "did you mean optimizer=adamw?",
    "degradation=gaussian": "did you mean degradation=blur|noise?",
    "degradation=noise,blur": "add -m",
    "action=train,evaluate": "add -m",
    "trainer.devices=0,1": "'trainer.devices=[0,1]'",
    "resume=a,b": "give one run folder",
    "action=test": "did you mean action=evaluate?",
    "action=denoise": "action=restore input=<picture>",
    "augment=true": "choose one of crop_flip|erase|flip|none|randaugment|rotate|turns",
    "model={a:1}": "choose one of autoencoder|baseline|classifier",
    "train": "write action=train",
    "photo.jpg": "write task=folder task.path=photo.jpg",
    "help": "write --help",
    "seed = 3": "write seed=3",
    "seed =3": "write seed=3",
    "model= gan": "write model=gan",
    "--model gan": "write model=gan",
    "--lr=0.1": "write optimizer.lr=0.1",
    "--nope": "`python run.py --help` shows what can be typed",
    "--config-dir nowhere": "there is no folder",
    "seed=abc": "give a whole number",
    "model.loss=huber": "choose one of bce|charbonnier",
}
JARGON = re.compile(r"Union\[|Optional\[|Literal\[|NoneType|Sequence\[|Traceback|\w+Error\b|\w+Exception\b")


def refused(typed: Typed, words: list[str], key: str) -> None:
    before = sorted(typed.tmp_path.rglob("*"))
    status, _, errors = typed(*words)
    assert status == 2, (words, errors)
    sentences = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, (words, errors)
    assert key in sentences[0], (words, sentences[0])
    assert not JARGON.search(sentences[0]), (words, sentences[0])
    assert re.search(r"[;:,—] ?\S+", sentences[0]), (words, sentences[0])
    assert sorted(typed.tmp_path.rglob("*")) == before, words


# The quick tests have every second key.
@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.slow) if number % 2 else key for number, key in enumerate(KEYS)]
)
def test_a_wrong_value_is_one_sentence(key: str, typed: Typed) -> None:
    base = ["model=classifier", *(word for word in QUICK if not word.startswith(f"{key}="))]
    if key.startswith("accelerator."):
        base.remove("accelerator=cpu")
    for value in KEYS[key]:
        refused(typed, [*base, f"{key}={value}"], key)


@pytest.mark.parametrize(("command", "key"), OTHERS, ids=[command for command, _ in OTHERS])
def test_a_wrong_command_is_one_sentence(command: str, key: str, typed: Typed) -> None:
    refused(typed, command.split(" "), key)


@pytest.mark.parametrize("command", NEWCOMERS)
def test_a_newcomer_is_told_what_to_type(command: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(typed.tmp_path))
    refused(typed, command.split(" "), NEWCOMERS[command])


def test_what_needs_no_torch_is_told_without() -> None:
    """Torch and Lightning take seconds to import, on a busy machine half a minute."""
    commands = ["lr=0.001", "task=MNIST", "seed=abc", "trainer.max_epochs=0", "model.loss=huber", "data=mnist"]
    code = (
        "import sys; import run\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['run.py', command]\n"
        "    try: status = run.main()\n"
        "    except SystemExit as exit_: status = exit_.code\n"
        "    assert status == 2, command\n"
        "    assert not {'torch', 'lightning'} & set(sys.modules), command\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(commands)


def test_there_are_many() -> None:
    assert sum(map(len, KEYS.values())) + len(OTHERS) >= 250
    assert Path("/nowhere").exists() is False
