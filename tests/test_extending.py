"""What a newcomer adds, each from a folder outside the repository, and how many files that takes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, Typed
from test_command_line import folder_of

Added = Callable[..., tuple[int, str, str]]


@pytest.fixture
def add(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Added:
    """Return a function that writes files into the current folder and types a command there that trusts them."""

    def write(files: dict[str, str], *words: str) -> tuple[int, str, str]:
        for name, text in files.items():
            (typed.tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (typed.tmp_path / name).write_text(text)
        module = next(iter(files)).removesuffix(".py")
        monkeypatch.setenv("RECON_TRUST", module)
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
        return typed("--config-dir", str(typed.tmp_path / "conf"), *words)

    return write


def test_a_degradation_is_a_class_and_a_yaml(add: Added) -> None:
    files = {
        "own_rain.py": '''"""Rain."""
from torch import Tensor
from recon import keyed
from recon.degradations import Degradation, Degraded
from recon.degradations.base import all_known


class Rain(Degradation):
    """Bright streaks, as many as `amount` of the columns."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        streaks = keyed.uniform(keys, (1, 1, clean.shape[3])) < self.amount
        return Degraded(clean.clamp(min=0.5 * streaks), all_known(clean), clean.new_full((len(clean),), self.amount))
''',
        "conf/degradation/rain.yaml": "# streaks\n_target_: own_rain.Rain\namount: 0.2\n",
    }
    assert len(files) == 2
    status, output, errors = add(files, "model=restoration", "degradation=rain", "degradation.amount=0.3", *QUICK)
    assert status == 0, errors
    metrics = json.loads((folder_of(output) / "metrics.json").read_text())
    assert 5 < metrics["test/psnr_degraded"] < 40


def test_a_net_is_a_class_and_a_yaml(add: Added) -> None:
    files = {
        "own_net.py": """from torch import Tensor, nn


class Plain(nn.Module):
    def __init__(self, channels: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.Conv2d(width, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
""",
        "conf/model/net/plain.yaml": "# two layers\n_target_: own_net.Plain\nwidth: 8\n",
    }
    status, _, errors = add(files, "model=inpainting", "model/net=plain", "model.net.width=4", *QUICK)
    assert status == 0, errors


def test_a_loss_is_a_class_and_a_yaml(add: Added) -> None:
    files = {
        "own_loss.py": """from torch import Tensor
from recon.losses import PixelLoss, wide


class Power(PixelLoss):
    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        return (wide(image) - wide(clean)).abs().pow(self.exponent)
""",
        "conf/model/loss/power.yaml": "# any power of the error\n_target_: own_loss.Power\nexponent: 2.0\n",
    }
    status, output, errors = add(files, "model=restoration", "model/loss=power", *QUICK)
    assert status == 0, errors
    metrics = json.loads((folder_of(output) / "metrics.json").read_text())
    # The net's output is not clamped for the loss.
    assert metrics["test/loss"] >= metrics["test/mse"]


def test_an_action_is_a_class_and_a_yaml(add: Added, typed: Typed) -> None:
    _, output, _ = typed("model=autoencoder", *QUICK)
    trained = folder_of(output)
    files = {
        "own_action.py": """from pathlib import Path
from recon.actions.base import Action
from recon.build import trained


class Count(Action):
    needs_run = True
    leaves_a_record = False
    takes = ()

    def __init__(self, run: str, times: int) -> None:
        self.run, self.times = run, times

    def __call__(self, config, folder, about) -> None:
        print("weights:", self.times * sum(weight.numel() for weight in trained(Path(self.run)).parameters()))
""",
        "conf/action/count.yaml": (
            "# @package _global_\n# count weights\naction: {_target_: own_action.Count}\nrun: null\ntimes: 1\n"
            "hydra: {run: {dir: .}}\n"
        ),
    }
    status, one, errors = add(files, "action=count", f"run={trained}")
    assert status == 0, errors
    _, two, _ = typed("--config-dir", str(typed.tmp_path / "conf"), "action=count", f"run={trained}", "times=2")
    assert 0 < 2 * int(one.split()[-1]) == int(two.split()[-1])
    # Help and the sentences for mistakes know it too.
    _, text, _ = typed("--config-dir", str(typed.tmp_path / "conf"), "--help")
    assert "count weights" in text
    sentence = typed.refused("--config-dir", str(typed.tmp_path / "conf"), "times=2")
    assert sentence.endswith("times: action=train does not use it; leave it out, or add action=count")
    sentence = typed.refused("--config-dir", str(typed.tmp_path / "conf"), "action=count", f"run={trained}", "times=x")
    assert "times: 'x' does not fit; give a whole number" in sentence


# A net, and a module with measures, a table and a picture of its own.
OWN_MODULE = '''import torch
from PIL import Image
from torch import Tensor, nn
from recon import losses
from recon.measures import Measure
from recon.modules.base import Module
from recon.modules.outcome import Artifact, Outcome
from recon.pair import Pair
from recon.training.options import Training


class Colour(nn.Module):
    """The mean of the clean image, from the degraded one."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mean((2, 3)))[:, 0]


class Net:
    """Any net that gives one number an image."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...


class BrightnessModule(Module):
    contract = Net
    measures = (
        Measure("off", "error of brightness", -1, "%", 2, role="quality", factor=100.0),
        Measure("spread", "spread of errors", -1),
    )
    monitor, mode = "val/off", "min"

    def step(self, pair: Pair) -> Outcome:
        guess = self.active_net(self.like_weights(pair.degraded))
        error = guess - pair.clean.mean((1, 2, 3))
        return Outcome(error.square(), terms={"off": error.abs()}, columns={"features": torch.stack([guess, error], 1)})

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        assert columns["features"].shape[1:] == (2,)
        return {"spread": columns["features"][:, 1].std().item()}

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        return {"errors": [{"off": value} for value in columns["off"].tolist()], "images/own": Image.new("L", (9, 9))}
'''


def test_a_module_with_a_measure_and_a_picture_is_two_classes_and_two_yamls(add: Added, typed: Typed) -> None:
    files = {
        "own_module.py": OWN_MODULE,
        "conf/model/brightness.yaml": (
            "# how bright an image is\ndefaults:\n  - net: colour\n  - _self_\n_target_: own_module.BrightnessModule\n"
        ),
        "conf/model/net/colour.yaml": "# a linear layer\n_target_: own_module.Colour\n",
    }
    assert len(files) <= 5
    status, output, errors = add(files, "model=brightness", "degradation=noise", *QUICK)
    assert status == 0, errors
    folder = folder_of(output)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/off"] > 0
    assert metrics["test/spread"] > 0
    assert metrics["measures"]["off"]["label"] == "error of brightness"
    assert (folder / "errors.csv").read_text().startswith("off\n")
    assert (folder / "images" / "own.png").is_file()
    # The report reads it without the class.
    os.environ.pop("RECON_TRUST")
    assert typed("action=report", f"runs={folder}")[0] == 0
    page = (folder / "report.html").read_text()
    assert "error of brightness (%)" in page
    assert "spread" in page


def test_a_dashboard_is_a_class_and_a_yaml(add: Added) -> None:
    files = {
        "own_dashboard.py": """from recon.dashboards.base import About, Dashboard


class Lines(Dashboard):
    title = "Lines"

    def __init__(self, about: About, prefix: str) -> None:
        self.path, self.prefix = about.folder / "lines.txt", prefix

    def close(self, metrics, status) -> None:
        self.path.write_text("".join(f"{self.prefix}{name}\\n" for name in metrics))
""",
        "conf/logger/lines.yaml": "# a line for each metric\n_target_: own_dashboard.Lines\nprefix: '> '\n",
    }
    words = [word for word in QUICK if "logger" not in word]
    status, output, errors = add(files, "model=autoencoder", "logger=lines", "logger.prefix=metric:", *words)
    assert status == 0, errors
    assert "metric:test/psnr\n" in (folder_of(output) / "lines.txt").read_text()


def test_a_training_option_is_two_files(tmp_path: Path) -> None:
    """In a copy of the repository: a penalty on squared weights, for every module."""
    for name in ("recon", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    options = tmp_path / "recon" / "training" / "options.py"
    text = options.read_text()
    penalty = "        loss = loss + self.l2 * sum(weight.square().sum() for weight in net.parameters())\n"
    changed = text.replace("    ema: float\n", "    ema: float\n    l2: float\n")
    changed = changed.replace("        return loss + self.l1", f"{penalty}        return loss + self.l1")
    assert changed.count("l2") == 2
    options.write_text(changed)
    with open(tmp_path / "conf" / "training.yaml", "a") as file:
        file.write("l2: 0.0  # weight of the sum of squared weights\n")
    code = (
        "import sys, torch; import recon; from recon.cli import main\n"
        "sizes = []\n"
        "for l2 in ('0', '10'):\n"
        "    sys.argv = ['run.py', 'model=autoencoder', f'model.l2={l2}', f'hydra.run.dir=run{l2}']\n"
        f"    sys.argv += {list(QUICK)!r}\n"
        "    assert main() == 0\n"
        "    weights = torch.load(f'run{l2}/checkpoints/best.ckpt', weights_only=True)['state_dict'].values()\n"
        "    sizes.append(sum(float(w.square().sum()) for w in weights))\n"
        "assert sizes[1] < 0.999 * sizes[0], sizes\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
