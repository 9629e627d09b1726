"""Dashboards: what they show, that a resumed run goes on in them, and that no fault of theirs reaches a run."""

import csv
import errno
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Typed
from test_command_line import QUICK, folder_of

from recon.config.conf import read_choice
from recon.config.construct import find_class
from recon.dashboards import threaded
from recon.dashboards.base import About
from recon.dashboards.csv import CSV
from recon.dashboards.wandb import WandB
from recon.errors import InputError

BRIEF = tuple(word for word in QUICK if "logger" not in word and "max_steps" not in word)
WITHOUT: dict[str, float] = {}  # what `logger=none` measures, found once
# What two runs of the same configuration do not share.
TIMED = ("train/seconds", "train/images_per_second", "cost/")


def class_of(kind: str) -> Any:
    return find_class((read_choice("logger", kind) or {})["_target_"], "logger")


def make(kind: str, folder: Path) -> Any:
    """Make the logger of a choice of `logger=`."""
    node = read_choice("logger", kind) or {}
    about = {"project": "recon", "group": None, "name": None, "tags": []}
    (logger,) = threaded.make({**node, **about}, folder, {"action": "train"})
    return logger


# Reading back ------------------------------------------------------------------------------------------------------


def records_of(folder: Path) -> list[Any]:
    """Read what `wandb sync` would upload of the only W&B run in a folder (LevelDB's log format)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    data, place, message, records = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # what is left of a block is padding
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(message))
            message = b""
    return records


def kind_of(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def items(updates: Any) -> dict[str, Any]:
    return {update.key or "/".join(update.nested_key): json.loads(update.value_json) for update in updates}


def history_of(records: list[Any]) -> list[dict[str, Any]]:
    return [items(row.item) for row in kind_of(records, "history")]


def exit_code_of(folder: Path) -> int:
    (end,) = kind_of(records_of(folder), "exit")
    return int(end.exit_code)


def metrics_of(folder: Path) -> dict[str, float]:
    read = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in read.items() if not name.startswith((*TIMED, "convention"))}


def table_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


# What they show ----------------------------------------------------------------------------------------------------


def test_an_offline_wandb_run_holds_the_whole_dashboard(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(typed.tmp_path / "home"))
    status, output, errors = typed(
        "model=classifier", "logger=wandb", "logger.group=a_sweep", "logger.name=model-classifier", "logger.tags=[x,y]",
        "trainer.max_epochs=2", "trainer.log_every_n_steps=5", "trainer.enable_progress_bar=false", "accelerator=cpu",
    )  # fmt: skip
    assert status == 0, errors
    folder = folder_of(output)
    assert f"wandb sync {folder}/wandb/offline-run-*" in output
    records = records_of(folder)

    (run,) = kind_of(records, "run")
    assert (run.run_group, run.display_name, list(run.tags)) == ("a_sweep", "model-classifier", ["x", "y"])
    assert run.job_type == "train"
    assert run.project == "recon"
    config = items(run.config.update)
    assert config["model"]["_target_"] == "recon.modules.classification.ClassificationModule"
    assert config["trainer"]["max_epochs"] == 2

    # Every fifth step, and each epoch's end: the steps of metrics.csv.
    history = history_of(records)
    assert [row["_step"] for row in history] == [5, 10, 15, 19, 24, 29, 34, 38]
    assert all({"train/loss", "train/lr"} <= row.keys() for row in history)
    validated = [row for row in history if "val/accuracy" in row]
    assert [(row["_step"], row["val/accuracy"]) for row in validated] == [
        (int(row["step"]), pytest.approx(float(row["val/accuracy"]))) for row in table_of(folder)
    ]
    assert all("images/validation/path" in row for row in validated)

    summary: dict[str, Any] = {}
    for update in kind_of(records, "summary"):
        summary |= items(update.update)
    measured = json.loads((folder / "metrics.json").read_text())
    for name, value in measured.items():
        if name.startswith(("test/", "val/", "train/")):
            assert summary[name] == pytest.approx(value), name
    assert summary["status"] == "ok"
    assert exit_code_of(folder) == 0

    media = next((folder / "wandb").glob("offline-run-*")) / "files" / "media"
    (path,) = media.rglob("per_image*.table.json")
    shown = json.loads(path.read_text())
    assert shown["columns"] == [
        "index", "loss", "severity", "prediction", "confidence", "label", "rank", "brier", "degraded",
    ]  # fmt: skip
    with open(folder / "per_image.csv", newline="") as file:
        assert [row[1] for row in shown["data"]] == [float(row["loss"]) for row in csv.DictReader(file)]
    assert [row[-1] for row in shown["data"][:9]] == ["Image"] * 8 + [None]
    # The table with its pictures is an artifact; its files wait in the run folder.
    artifact = next(entry for entry in kind_of(records, "artifact") if "per_image" in entry.name)
    waiting = [Path(entry.local_path) for entry in artifact.manifest.contents]
    assert len(waiting) == 8 + 1
    assert all(place.is_file() and folder in place.parents for place in waiting)

    (path,) = media.rglob("confusion_table*.json")
    counts = {(row[0], row[1]): row[2] for row in json.loads(path.read_text())["data"]}
    with open(folder / "confusion.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert all(counts[row["truth"], str(k)] == int(row[str(k)]) for k in range(10))
    assert sorted(place.name.split("_")[0] for place in (media / "images" / "images").iterdir()) == [
        "confusion", "reliability", "test", "validation", "validation", "worst",
    ]  # fmt: skip


def test_variables_of_wandb_hold_unless_a_key_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = {
        "MODE": "offline", "PROJECT": "its project", "NAME": "its name", "RUN_GROUP": "its group", "TAGS": "a,b",
        "JOB_TYPE": "its type", "NOTES": "its notes", "ENTITY": "its", "RUN_ID": "fixed", "DIR": str(tmp_path / "its"),
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    (tmp_path / "its").mkdir()
    config = {"action": "train"}

    def logged(about: About) -> Any:
        WandB(about).close({}, "ok")
        (run,) = kind_of(records_of(tmp_path / "its"), "run")
        shutil.rmtree(tmp_path / "its" / "wandb")
        return run

    run = logged(About(tmp_path / "a", config, None, None, None, []))
    assert (run.project, run.display_name, run.run_group) == ("its project", "its name", "its group")
    assert (list(run.tags), run.job_type, run.notes, run.entity, run.run_id) == (
        ["a", "b"], "its type", "its notes", "its", "fixed",
    )  # fmt: skip
    run = logged(About(tmp_path / "b", config, "project", "group", "name", ["tag"]))
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("project", "name", "group", ["tag"])


@pytest.mark.parametrize("model", ["classifier", "gan"])
def test_tensorboard_shows_what_the_run_folder_holds(model: str, typed: Typed) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status, output, errors = typed(
        f"model={model}", "logger=tensorboard", "trainer.max_epochs=2", "trainer.limit_train_batches=3", *BRIEF
    )
    assert status == 0, errors
    folder = folder_of(output)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = table_of(folder)
    for name in rows[0]:
        if "/" in name:
            points = {point.step: point.value for point in events.Scalars(name)}
            assert points == {int(row["step"]): pytest.approx(float(row[name]), rel=1e-5) for row in rows}, name
    last = int(rows[-1]["step"])
    for name, value in metrics_of(folder).items():
        if name.startswith("test/"):
            (point,) = events.Scalars(name)
            assert (point.step, point.value) == (last, pytest.approx(value, rel=1e-5))
    of_its_own = {
        "classifier": {"images/confusion": 1, "images/reliability": 1, "images/worst": 1}, "gan": {"images/closest": 1},
    }[model]  # fmt: skip
    images = {"images/validation": 2, "images/test": 1} | of_its_own
    assert {name: len(events.Images(name)) for name in events.Tags()["images"]} == images


def test_several_loggers_each_hold_every_logged_step(typed: Typed) -> None:
    pytest.importorskip("tensorboard")
    several = ("model=classifier", "logger=[tensorboard,csv,none]")
    status, output, errors = typed(*several, "trainer.log_every_n_steps=4", "trainer.max_epochs=1", *BRIEF)
    assert status == 0, errors
    folder = folder_of(output)
    assert list((folder / "tensorboard").glob("events*"))
    assert json.loads((folder / "environment.json").read_text())["choices"]["logger"] == "tensorboard,csv,none"
    with open(folder / "csv" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train/lr"]][:4] == [4, 8, 12, 16]
    assert any(row["val/accuracy"] for row in rows)


def test_what_is_no_list_of_loggers_is_refused(typed: Typed) -> None:
    assert "logger=cvs: there is no such choice; choose one of auto|csv|" in typed.refused("logger=[tensorboard,cvs]")
    assert "task: it takes one choice; -m task=mnist,digits makes" in typed.refused("task=[mnist,digits]")


CODES = {
    "embed": (("measure=false",), {"code_map", "code_neighbours"}),
    "anomalies": ((), {"anomaly_histograms", "anomaly_where"}),
    "generate": (("show=strips", "n=2", "components=1"), {"generated_strips"}),
    "rates": (("images=5",), {"rates"}),
    "explain": (("method=receptive_field",), {"explain_receptive_field"}),
}


def test_a_later_picture_takes_the_place_of_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "metrics.csv").write_text("epoch,step\n0,5\n1,9\n")
    (tmp_path / "config.yaml").write_text("logger: {project: 7, tags: [mine]}\n")
    node = {**(read_choice("logger", "tensorboard") or {}), "project": "typed", "group": None, "name": None, "tags": []}
    for value in (10, 200):
        threaded.log_after(node, tmp_path, {"map": Image.new("L", (3, 2), value)})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(image.step, image.width, image.height) for image in events.Images("images/map")] == [
        (10, 3, 2),
        (11, 3, 2),
    ]
    with pytest.raises(InputError, match=r"logger\.project"):
        threaded.log_after({**node, "project": None}, tmp_path, {})
    threaded.log_after({**node, "_target_": None}, tmp_path, {"map": Image.new("L", (3, 2))})
    assert "failed" not in capfd.readouterr().out


@pytest.mark.slow
def test_pictures_of_a_trained_model_join_those_of_its_training(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TensorBoard none takes the place of another, and W&B's run stays that of the training."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = typed.tmp_path / "run"
    words = ("model=autoencoder", "model/quantiser=scalar", "model.net.latent_dim=3", "task.normal=[0]")
    steps = ("trainer.max_epochs=2", "logger=tensorboard", "logger.name=mine", f"hydra.run.dir={run}")
    status, _, errors = typed(*words, *steps, *BRIEF)
    assert status == 0, errors
    for action, (more, _) in CODES.items():
        logger = "[tensorboard,wandb]" if action == "embed" else "tensorboard"
        status, output, errors = typed(f"action={action}", f"run={run}", *more, f"logger={logger}")
        assert status == 0, errors
        assert "failed" not in output
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    last = int(table_of(run)[-1]["step"])
    assert {point.step for point in events.Scalars("test/mse")} == {last}
    found = {name: [image.step for image in events.Images(name)] for name in events.Tags()["images"]}
    named = [{f"images/{name}" for name in names} for _, names in CODES.values()]
    assert found.keys() - {"images/test", "images/validation", "images/worst"} == set.union(*named)
    (times,) = {len(steps) for name, steps in found.items() if name != "images/validation"}
    assert times == 1
    of_actions = [found[min(names)][0] for names in named]
    assert [last, *of_actions] == sorted({last, *of_actions})

    records = records_of(run)
    (row,) = history_of(records)
    assert {"images/code_map/path", "images/code_neighbours/path"} < row.keys()
    assert row["_step"] == of_actions[0]
    (logged,) = kind_of(records, "run")
    assert (logged.display_name, logged.job_type) == ("mine", "train")
    assert "train.Train" in items(logged.config.update)["action"]["_target_"]
    assert exit_code_of(run) == 0


# A resumed run -----------------------------------------------------------------------------------------------------


def log(kind: str, folder: Path, steps: range) -> None:
    """Log the square of each step to a run folder, as one process of a run does."""
    logger = make(kind, folder)
    assert logger is not None
    for step in steps:
        logger.log_metrics({"train/loss": float(step**2)}, step)
    threaded.finish([logger], {"test/psnr": 20.0}, "ok")


def test_a_resumed_run_is_the_same_wandb_run_in_a_moved_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    log("wandb", tmp_path / "first", range(1, 7))
    # The checkpoint was of step 4.
    (tmp_path / "first").rename(tmp_path / "moved")
    (part,) = (tmp_path / "moved" / "wandb").glob("offline-run-*")
    first = records_of(tmp_path / "moved")
    part.rename(tmp_path / "part")
    log("wandb", tmp_path / "moved", range(5, 9))
    second = records_of(tmp_path / "moved")
    ids = {run.run_id for run in kind_of(first, "run") + kind_of(second, "run")}
    assert ids == {(tmp_path / "moved" / "wandb" / "id").read_text()}
    steps = [[row["_step"] for row in history_of(records)] for records in (first, second)]
    assert steps == [[1, 2, 3, 4, 5, 6], [5, 6, 7, 8]]
    log("wandb", tmp_path / "other", range(1, 3))
    assert (tmp_path / "other" / "wandb" / "id").read_text() not in ids


def test_a_resumed_run_goes_on_in_tensorboard_and_csv(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for kind in ("tensorboard", "csv"):
        log(kind, tmp_path, range(1, 7))
        log(kind, tmp_path, range(5, 9))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    expected = [(step, float(step**2)) for step in range(1, 9)]
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == expected
    with open(tmp_path / "csv" / "metrics.csv", newline="") as file:
        assert [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file)] == expected


# Faults ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A server on this machine that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def service_id() -> int:
    import wandb

    service: Any = wandb.setup().assert_service()
    return int(service._proc._process.pid)


def before_the_first_picture(monkeypatch: pytest.MonkeyPatch, kind: type[Any], happens: Callable[[], None]) -> None:
    """Let something happen in the middle of a run, in the thread that logs."""
    image = kind.image

    def first(self: Any, *arguments: Any) -> None:
        monkeypatch.setattr(kind, "image", image)
        happens()
        image(self, *arguments)

    monkeypatch.setattr(kind, "image", first)


def same_as_without(logger: str, typed: Typed) -> tuple[str, Path]:
    """Run with a logger and without; both must end well and measure the same. Returns the output of the former."""
    chosen = ("model=classifier", "trainer.max_epochs=2", "trainer.limit_train_batches=4", *BRIEF)
    status, output, errors = typed(f"logger={logger}", *chosen)
    assert status == 0, errors
    assert "Traceback" not in output + errors
    folder = folder_of(output)
    if not WITHOUT:
        _, without, _ = typed("logger=none", *chosen)
        WITHOUT.update(metrics_of(folder_of(without)))
    assert metrics_of(folder) == WITHOUT
    assert json.loads((folder / "environment.json").read_text())["status"] == "ok"
    return output, folder


def line_of(output: str, word: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith("logger: ") and word in line]
    return line


@pytest.mark.parametrize("server", ["closed_port", "silent_server"])
def test_without_a_server_that_answers_wandb_goes_offline(
    server: str,
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{request.getfixturevalue(server)}")
    output, folder = same_as_without("auto", typed)
    line = line_of(output, "offline")
    assert "does not answer" in line
    assert f"wandb sync {folder}/wandb/offline-run-*" in line
    assert exit_code_of(folder) == 0
    assert any("test/accuracy" in row for row in history_of(records_of(folder)))


def test_a_server_that_refuses_the_key_makes_wandb_go_offline(
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        output, folder = same_as_without("wandb", typed)
        server.shutdown()
    assert "wandb sync" in line_of(output, "offline")
    assert exit_code_of(folder) == 0


def kill_the_service() -> None:
    os.kill(service_id(), signal.SIGKILL)


def stop_the_service() -> None:
    os.kill(service_id(), signal.SIGSTOP)


def fill_the_disk_of_the_service() -> None:
    resource.prlimit(service_id(), resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize(
    "happens",
    [kill_the_service,
     *(pytest.param(each, marks=pytest.mark.slow) for each in (stop_the_service, fill_the_disk_of_the_service))],
)  # fmt: skip
def test_what_happens_to_the_wandb_service_does_not_matter_to_the_run(
    happens: Callable[[], None],
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(threaded.ThreadedLogger, "last_patience", 2.0)
    before_the_first_picture(monkeypatch, WandB, happens)
    output, folder = same_as_without("wandb", typed)
    if happens is not fill_the_disk_of_the_service:
        assert f"everything is in {folder}" in line_of(output, "W&B failed")


@pytest.mark.parametrize("kind", ["wandb", "tensorboard", "csv"])
def test_a_call_that_raises_ends_the_logging_with_one_line(
    kind: str,
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")

    def happens() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    dashboard = class_of(kind)
    before_the_first_picture(monkeypatch, dashboard, happens)
    output, folder = same_as_without(kind, typed)
    line = line_of(output, f"{dashboard.title} failed")
    assert "No space left on device" in line
    assert f"everything is in {folder}" in line


@pytest.mark.parametrize("kind", ["wandb", "tensorboard", "csv"])
def test_a_dashboard_that_cannot_be_opened_is_one_line(
    kind: str,
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file lies where the dashboard's folder should be."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    (typed.tmp_path / "run").mkdir()
    (typed.tmp_path / "run" / kind).write_text("in the way")
    chosen = ("model=classifier", "trainer.max_epochs=1", "trainer.limit_train_batches=2", *BRIEF)
    status, output, errors = typed(f"logger={kind}", f"hydra.run.dir={typed.tmp_path}/run", *chosen)
    assert status == 0, errors
    assert str(typed.tmp_path / "run") in line_of(output, f"{class_of(kind).title} failed")


def test_a_call_that_hangs_holds_up_neither_the_run_nor_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    released = threading.Event()
    monkeypatch.setattr(CSV, "scalars", lambda *_: released.wait())
    monkeypatch.setattr(threaded.ThreadedLogger, "last_patience", 0.5)
    started = time.monotonic()
    log("csv", tmp_path, range(1000))
    assert time.monotonic() - started < 4
    assert "CSV failed" in line_of(capfd.readouterr().out, "continues without it")

    monkeypatch.setattr(threaded.ThreadedLogger, "patience", 0.2)
    logger = make("csv", tmp_path)
    assert logger is not None
    logger.log_metrics({"train/loss": 1.0}, 1)
    time.sleep(0.3)
    logger.log_metrics({"train/loss": 1.0}, 2)
    assert "no answer" in line_of(capfd.readouterr().out, "CSV failed")
    released.set()


# How a run ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("a fault"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_wandb_run_ends_as_the_run_does(
    error: BaseException, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.runs.record import recorded

    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = make("wandb", tmp_path)

    def work() -> None:
        assert logger is not None
        logger.log_metrics({"train/loss": 1.0}, 1)
        raise error

    with pytest.raises(type(error)), recorded(tmp_path, {"seed": 0}, {}, [logger]):
        work()
    records = records_of(tmp_path)
    assert exit_code_of(tmp_path) == 1
    assert any(items(update.update).get("status") == status for update in kind_of(records, "summary"))
    assert [row["train/loss"] for row in history_of(records)] == [1.0]


def test_a_run_with_a_loss_that_is_not_finite_is_a_failed_wandb_run(
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    typed.refused("model=classifier", "optimizer=sgd", "optimizer.lr=1e30", "logger=wandb", *BRIEF)
    (folder,) = typed.tmp_path.glob("outputs/*/*")
    assert exit_code_of(folder) == 1


def service_of(process: int) -> int:
    """Find W&B's service among the children of a process."""
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise LookupError(process)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the service process")
@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_ends_although_its_wandb_service_hangs_or_died(signal_: signal.Signals, tmp_path: Path) -> None:
    """Such as does not end by itself: at exit, wandb waits for its service without limit."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path\n"
        "from recon.dashboards import threaded\n"
        f"threaded.ThreadedLogger.last_patience = 1.0; folder = Path({str(tmp_path)!r})\n"
        "node = dict(_target_='recon.dashboards.wandb.WandB', project='recon', group=None, name=None, tags=[])\n"
        "(logger,) = threaded.make(node, folder, {})\n"
        "step, after = 0, 20\n"
        "while after:\n"
        "    logger.log_metrics({'train/loss': 1.0}, step := step + 1); time.sleep(0.05)\n"
        "    after -= (folder / 'done').exists()\n"
        "threaded.finish([logger], {}, 'ok')\n"
    )
    environment = {**os.environ, "WANDB_MODE": "offline"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "wandb").glob("offline-run-*/*.wandb")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(service_of(child.pid), signal_)
        (tmp_path / "done").touch()
        output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert "Traceback" not in errors
    assert "W&B failed" in line_of(output, "continues without it")
