"""What the tests share: composing a configuration and typing commands as a user does, and real images in a folder."""

import copy
import functools
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# Small steps on a busy machine are many times slower with two threads than with one, also in commands and jobs.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist's; a width that is given holds for a pipe too
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# No test may ask W&B's server anything.
os.environ.setdefault("WANDB_MODE", "disabled")

Compose = Callable[..., dict[str, Any]]
# A run of two steps.
QUICK = (
    "trainer.max_steps=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "accelerator=cpu",
    "logger=none",
)


def choices(group: str) -> list[str]:
    """The choices of a configuration group: adding a YAML adds its tests."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def slow_if(is_slow: bool, *values: object) -> object:
    """The values of a parametrised case, as a slow test where it takes long."""
    return pytest.param(*values, marks=pytest.mark.slow if is_slow else ())


def trained_models() -> list[str]:
    """The choices of `model` that are fitted to the training images; the others are only tested."""
    import yaml

    from recon.config.construct import find_class

    nodes = {name: yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text()) for name in choices("model")}
    return [name for name, node in nodes.items() if find_class(node["_target_"], "model").trains]


def data_root() -> Path:
    return Path(os.environ.get("RECON_DATA", ROOT.parent / "shared" / "data"))


def type_in(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        capture_output=True, text=True, timeout=240, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


class Typed:
    """A command line carried out in this process, which has torch and lightning already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.monkeypatch, self.capfd, self.tmp_path = monkeypatch, capfd, tmp_path
        monkeypatch.chdir(tmp_path)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit status, output and errors."""
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        import run

        self.monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), *arguments])
        self.capfd.readouterr()
        try:
            status = run.main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return (status, *self.capfd.readouterr())

    def refused(self, *arguments: str) -> str:
        """Return the one sentence that refuses a command line."""
        status, _, errors = self(*arguments)
        assert status == 2, errors
        assert "Traceback" not in errors
        (sentence,) = [line for line in errors.splitlines() if line.startswith("error: ")]
        return sentence


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Give each test the same environment variables: Lightning writes addresses and seeds into them."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    return Typed(monkeypatch, capfd, tmp_path)


@pytest.fixture(autouse=True, scope="session")
def cost_in_no_time() -> None:
    """Let tests measure what a net costs by three repetitions on small images, not for a tenth of a second."""
    from recon.training import cost

    cost._SECONDS, cost._LARGEST, cost._PIXELS = 0.0, 64, 1 << 12


@pytest.fixture(autouse=True, scope="session")
def repeated_work_once() -> Iterator[None]:
    """Let a test session do once what hundreds of commands repeat: a third of the time of the tests in a process.

    Those are to parse the same text of YAML, to compose everything for `hydra.mode`, which no file of conf/ sets,
    and to read the digits. Commands in processes of their own are as they are.
    """
    import sklearn.datasets
    from hydra._internal.hydra import Hydra
    from omegaconf import OmegaConf

    parsed: dict[str, Any] = {}
    parse, mode = OmegaConf.load, Hydra.get_mode
    digits = functools.cache(sklearn.datasets.load_digits)

    def load(file: Any) -> Any:
        text = file.read() if hasattr(file, "read") else Path(file).read_text(encoding="utf-8")
        if text not in parsed:
            parsed[text] = parse(io.StringIO(text))
        return copy.deepcopy(parsed[text])

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        return mode(hydra, config_name, overrides) if any("hydra.mode" in word for word in overrides) else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load))
        patch.setattr(Hydra, "get_mode", get_mode)
        patch.setattr(sklearn.datasets, "load_digits", lambda: copy.deepcopy(digits()))
        yield


_composed: dict[tuple[str | None, ...], dict[str, Any]] = {}


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Give a function from overrides to the resolved configuration; Hydra takes a tenth of a second to compose one."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from recon.config.depending import register

    def make(*overrides: str) -> dict[str, Any]:
        register()
        OmegaConf.register_new_resolver("run_name", lambda *_: "run", replace=True)  # a command has put its own here
        known = (*overrides, os.environ.get("RECON_DATA"))
        if known not in _composed:
            GlobalHydra.instance().clear()
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                config = OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)
            assert isinstance(config, dict)
            _composed[known] = {str(key): value for key, value in config.items()}
        return copy.deepcopy(_composed[known])

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a subfolder for each of two classes, of real handwritten digits at 16×16."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for place, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label < 2 and place < 300:
            (folder / f"digit_{label}").mkdir(exist_ok=True)
            picture = Image.fromarray((image * 255 / 16).round().astype("uint8")).resize((16, 16))
            picture.save(folder / f"digit_{label}" / f"{place:04d}.png")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short runs of all kinds, made once; the processes of one test session share them."""
    import fcntl

    from report_runs import make

    base = tmp_path_factory.getbasetemp()
    top = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "report_runs"
    with open(top.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (top / "made").exists():
            make(top)
            (top / "made").touch()
    return top


@pytest.fixture
def some(made: Path, tmp_path: Path) -> Path:
    """A copy of the restoration runs among them, to be changed."""
    import shutil

    shutil.copytree(made / "sweep", tmp_path / "sweep", ignore=shutil.ignore_patterns("report.*"))
    return tmp_path / "sweep"
