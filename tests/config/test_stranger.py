"""A stranger's run folder: nothing in it runs, writes, goes on the network or reads the environment."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import QUICK, ROOT, Compose, Typed
from report_runs import carry_out

from recon import build
from recon.config.construct import KINDS, find_class
from recon.config.recorded import ask_about_network, of_run, read_config
from recon.config.resumed import of_resumed
from recon.errors import InputError
from recon.runs import RunFolder
from recon.runs.checkpoint import load
from recon.streams import printable

HOSTILE = [
    "os.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "functools.partial", "pathlib.Path.write_text",
    "torch.load", "torch.hub.load", "torch.utils.collect_env.run", "numpy.load", "pickle.loads", "runpy.run_path",
    "torch.nn.modules.module.torch.load", "torch.optim.optimizer.os.system", "recon.data.cache.os.system",
    "recon.runs.files.subprocess.Popen", "recon.runs.files.write_text", "recon.data.download.fetch",
    "recon.data.image_files.ImageFiles",
    "recon.sweep.process.ForkedJob", "recon.sweep.process.Group", "recon.sweep.machine.Place",
    "recon.sweep.state.State",
    "recon.runs.checkpoint.AtomicCheckpointIO", "recon.training.checkpoints.Checkpoints", "recon.dashboards.WandB",
    "recon.build.Trainer",
    "lightning.pytorch.loggers.csv_logs.ExperimentWriter", "lightning.pytorch.loggers.WandbLogger",
    "lightning.pytorch.callbacks.ModelCheckpoint", "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.strategies.DeepSpeedStrategy", "torchmetrics.multimodal.clip_score.CLIPScore",
    "torchmetrics.text.BERTScore", "torch.nn.Module", "torch.nn.parallel.DistributedDataParallel",
    "recon.degradations.base._Named", "recon._private.Thing", "recon", "", ".", "recon..nets", 
    "recon.nets.unet.UNet\x1b[2J",
    5, None, ["recon.nets.unet.UNet"], {"a": 1}, True,
]  # fmt: skip

EVALUATE = {"_target_": "recon.actions.evaluate.Evaluate"}


@pytest.mark.parametrize("key", KINDS)
def test_no_key_names_anything_but_its_kind(key: str) -> None:
    for path in HOSTILE:
        with pytest.raises(InputError, match=rf"^{key.replace('.', '[.]')}._target_: ") as refusal:
            find_class(path, key)
        assert "\x1b" not in printable(refusal.value)


def nameable() -> Iterator[tuple[str, str]]:
    """Yield every class that the allow-list lets a configuration name, with its key."""
    for key, kind in KINDS.items():
        for package in kind.packages:
            top = importlib.import_module(package)
            inner = pkgutil.walk_packages(getattr(top, "__path__", []), f"{package}.")
            for module in (package, *(found.name for found in inner)):
                if any(part.startswith("_") for part in module.split(".")):
                    continue
                for name, found in vars(importlib.import_module(module)).items():
                    if isinstance(found, type):
                        try:
                            find_class(f"{module}.{name}", key)
                        except InputError:
                            continue
                        yield key, f"{module}.{name}"


def construct_with_hostile_arguments(folder: str) -> None:
    """Construct every nameable class with every hostile value for each parameter; for a process of its own."""
    import inspect

    import wandb  # noqa: F401  its import makes a folder for media

    from recon.config.construct import construct

    values: list[Any] = [
        f"{folder}/x", "/etc/passwd", "http://127.0.0.1:9/x.tar", f"pipe:touch {folder}/x", -1, 0, 3, 0.5, [3, 3], True,
        None, {"a": 1}, {"_target_": "os.system", "command": f"touch {folder}/x"},
    ]  # fmt: skip
    classes = list(dict.fromkeys(nameable()))
    events: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event.split(".")[0] in ("subprocess", "socket", "shutil") or event in (
            "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.mkdir", "os.rmdir",
        ):  # fmt: skip
            events.append(f"{event} {arguments}")

    sys.addaudithook(watch)
    for key, path in classes:
        parameters = inspect.signature(find_class(path, key)).parameters
        for value in values:
            node = {"_target_": path, **dict.fromkeys((n for n in parameters if n not in ("args", "kwargs")), value)}
            if KINDS[key].is_partial:
                node["_partial_"] = True
            try:
                made = construct(node, key)
                if KINDS[key].is_partial and key == "optimizer":
                    made([torch.nn.Parameter(torch.zeros(1))])
            except (InputError, ValueError, TypeError, RuntimeError):
                continue
    print(json.dumps({"classes": len(classes), "events": events}))


def test_no_nameable_class_starts_writes_or_connects(tmp_path: Path) -> None:
    code = f"import test_stranger; test_stranger.construct_with_hostile_arguments({str(tmp_path)!r})"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["classes"] > 60
    assert found["events"] == []
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_ones_own_is_derived_from_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_.py").write_text("class Vignette:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="set the environment variable RECON_TRUST"):
        find_class("mine_.Vignette", "degradation")
    monkeypatch.setenv("RECON_TRUST", "mine_")
    with pytest.raises(InputError, match=r"or derive it from recon\.degradations\.base\.Degradation"):
        find_class("mine_.Vignette", "degradation")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stranger") / "run"
    assert carry_out(folder, "model=classifier", "trainer.max_epochs=1", *QUICK) == 0
    return folder


@pytest.fixture
def strange(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of a real run, to be changed."""
    import shutil

    return Path(shutil.copytree(run_folder, tmp_path / "strange"))


def change(folder: Path, change: dict[str, Any]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in change.items():
        node, *rest = [key] if key.startswith("$") else key.split(".")
        if rest:
            config[node] = {**config[node], rest[0]: value}
        else:
            config[node] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


VERBS = {
    "evaluate": ("action=evaluate", "run={}"),
    "resume": ("resume={}",),
    "judge": ("model=gan", "model.judge={}", *QUICK),
}


def refused(typed: Typed, verb: str, folder: Path) -> str:
    return typed.refused(*(word.format(folder) for word in VERBS[verb]))


@pytest.mark.parametrize("key", ["runs", "logger.name", "task.path", "${oc.env:SECRET_}"])
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_recorded_is_filled_in(key: str, verb: str, strange: Path, typed: Typed) -> None:
    typed.monkeypatch.setenv("SECRET_", "s3cr3t")
    change(strange, {key: "http://127.0.0.1:9/${oc.env:SECRET_}.tar"})
    sentence = refused(typed, verb, strange)
    assert "which recon never records" in sentence
    assert not any(b"s3cr3t" in path.read_bytes() for path in strange.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "address",
    [
        "http://h/a.tar",
        "HTTP://h/a.tar",
        "pipe:touch x",
        "a.tar::http://h/b.tar",
        "{http:,http:}//h/a.tar",
        ["s3://h/x"],
    ],
)
def test_recorded_addresses_are_asked_about(address: Any) -> None:
    recorded = {"task": {"_target_": "recon.data.shards.WebDataset", "path": address, "test": None}}
    with pytest.raises(InputError, match="add allow_network=true"):
        ask_about_network(recorded, ["trainer.devices=1"], False, "run")
    ask_about_network(recorded, [], True, "run")
    ask_about_network(recorded, ["task=digits"], False, "run")
    ask_about_network(recorded, ["task.path=/own"], False, "run")


def test_a_recorded_address_is_not_fetched(strange: Path, typed: Typed) -> None:
    task = yaml.safe_load((ROOT / "conf/task/webdataset.yaml").read_text())
    change(strange, {"task": {**task, "path": "http://127.0.0.1:9/a.tar", "num_classes": 10}})
    assert "allow_network=true" in refused(typed, "evaluate", strange)
    assert "allow_network=true" in refused(typed, "resume", strange)


NODES = ("task", "model", "degradation", "protocol", "augment", "optimizer", "scheduler")
DAMAGES: dict[str, Any] = {
    "nothing": b"", "zeros": b"\0" * 99, "not UTF-8": b"\xff\xfe", "a list": b"[1, 2]", "a number": b"5",
    "an alias": b"a: &a {b: *a}", "a tag": b"!!python/object/apply:os.system ['true']", "deep": b"[" * 99999,
    "large": b"a: " + b"x" * 3_000_000,
}  # fmt: skip


def built(verb: str, folder: Path, composed: dict[str, Any]) -> None:
    """Build what a command that names a run would work with."""
    if verb == "judge":
        config = {**composed, "model": {**composed["model"], "judge": str(folder)}}
        task = build.task(config)
        build.module(config, task, build.degradation(config, task))
    elif verb == "resume":
        build.run(of_resumed({**composed, "resume": str(folder)}, [])[0], folder)
    else:
        build.run(of_run({**composed, "action": EVALUATE, "run": str(folder)}, []), folder)


@pytest.mark.parametrize("verb", VERBS)
def test_any_damage_of_a_configuration_is_one_sentence(verb: str, strange: Path, compose: Compose) -> None:
    composed = compose("model=gan", "logger=none", *(["action=evaluate"] if verb == "evaluate" else []))
    path = strange / "config.yaml"
    whole = path.read_text()
    environment = strange / "environment.json"
    environment.write_text(environment.read_text().replace('"ok"', '"failed"'))
    for damage in DAMAGES.values():
        path.write_bytes(damage)
        with pytest.raises(InputError):
            built(verb, strange, composed)
    makes = (os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("nowhere"))
    for number, make in enumerate(makes):
        (strange.parent / str(number)).mkdir()
        make(strange.parent / str(number) / "config.yaml")
        with pytest.raises(InputError):
            built(verb, strange.parent / str(number), composed)
    # A model needs nothing of the task and the damage that it was trained with.
    for node in ("model", "optimizer", "scheduler") if verb == "judge" else NODES:
        for value in (None, "x", 5, [], {"_target_": ["a"]}, {"_target_": "os.system"}, {"_target_": None}):
            path.write_text(whole)
            change(strange, {node: value})
            with pytest.raises(InputError):
                built(verb, strange, composed)
    path.write_text(whole)
    built(verb, strange, composed)


RECORDS = {"status": [5, None], "choices": [[], "x", {"model": 5}], "threads": ["abc", -5, [1], 10**6, 10**400],
           "seconds": ["x", None, 10**400], "resumed": [5, "x"], "overrides": [5], "command": [None]}  # fmt: skip


def test_any_damage_of_a_record_reads_as_missing(strange: Path, typed: Typed) -> None:
    path = strange / "environment.json"
    whole = json.loads(path.read_text())
    for key, values in RECORDS.items():
        for value in values:
            path.write_text(json.dumps({**whole, key: value}))
            assert not RunFolder(strange).environment.get(key), (key, value)
    for damage in DAMAGES.values():
        path.write_bytes(damage)
        assert RunFolder(strange).environment == {}
    path.write_text(json.dumps({key: values[0] for key, values in RECORDS.items()}))
    assert typed("action=evaluate", f"run={strange}", *QUICK)[0] == 0


def test_any_damage_of_a_checkpoint_is_one_sentence(strange: Path, typed: Typed) -> None:
    best = strange / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    content = torch.load(best, weights_only=True)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damage in (b"", whole[:999], bytes(flipped), b"PK\3\4" + b"\0" * 99):
        best.write_bytes(damage)
        with pytest.raises(InputError, match=r"^any: ") as refusal:
            load(best, key="any")
        assert "weights_only" not in str(refusal.value)
    refused(typed, "evaluate", strange)
    refused(typed, "judge", strange)
    assert "init_from" in typed.refused("model=classifier", f"init_from={strange}", *QUICK)
    for value in (None, 5, {"weight": "x"}):
        torch.save({**content, "state_dict": value}, best)
        with pytest.raises(InputError, match="holds no weights"):
            load(best)
    best.unlink()
    status, output, _ = typed("action=evaluate", f"run={strange}", *QUICK)
    assert status == 0
    assert "holds no best.ckpt: the weights of last.ckpt are taken" in output


def test_no_escape_code_reaches_a_terminal(strange: Path, typed: Typed) -> None:
    change(strange, {"augment": {"_target_": "os.system\x1b]0;owned\x07\x1b[2J\u202e"}})
    assert not set("\x1b\x07\u202e") & set(refused(typed, "evaluate", strange))
    assert printable("a\x1b[2J\nb\u202e\x9b\r") == "a�[2J b�� "


def test_a_recorded_configuration_is_read_as_it_is(run_folder: Path) -> None:
    assert read_config(run_folder) == yaml.safe_load((run_folder / "config.yaml").read_text())
