"""Imports run one way through the house, and its plain-torch parts need neither Lightning nor Hydra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# From what everything may import to what nothing may import.
LAYERS = [
    "errors", "streams", "trust", "training.allocator", "training.muon", "training.quick", "ranges", "config.conf",
    "config.depending", "config.training", "config.check", "config.optimiser", "config.construct", "config.words",
    "config.help", "config.mistyped", "config.resolved", "actions.base",
    "measures", "health", "runs.reading", "runs.older", "runs.files", "runs.tiles", "runs.names", "runs.lock",
    "runs.draw", "runs.folder", "runs",
    "data.sets", "runs.fingerprint", "runs.machine",
    "report", "actions.report", "actions.list", "actions.prune",
    "pair", "keyed", "filters.exact", "filters", "metrics.images", "metrics.classes", "metrics.protocol",
    "metrics.sure", "metrics.distribution", "metrics.generated",
    "metrics.copying", "metrics", "losses.pixel", "losses", "nets", "codec.tables",
    "data.pixels", "data.find", "degradations", "baselines",
    "console", "training.interrupt", "training.lightning", "training.options", "dashboards",
    "data.curriculum",
    "data.augment", "data.mix", "data.loader", "data.store", "data.download", "data.images", "data.cache",
    "data.image_files", "data.task", "data.tar", "data.samples", "data.shards", "data.tasks", "data.datamodule",
    "modules.facts", "modules.outcome", "modules.steps", "modules.validation", "modules.base", "modules.health",
    "modules.generating", "modules.sharpness", "modules.unfreezing", "modules.classification", "modules",
    "training.trial", "runs.checkpoint", "config.recorded", "config.resumed", "config.completion",
    "training.checkpoints", "training.epochs", "training.pictures", "training.progress", "training.cost",
    "runs.record", "training.trainer",
    "restore.tiles", "restore.weights", "build", "generated", "directions", "projection", "restore", "codec", "codes",
    "curve", "explain",
    "export", "shrink", "loaded",
    "actions.evaluate", "actions.budget", "actions.train", "actions", "sweep", "cli",
]  # fmt: skip


def layer(module: str) -> int:
    """The place of a module of recon: that of the longest name in LAYERS that it starts with."""
    names = [name for name in LAYERS if module == name or module.startswith(f"{name}.")]
    assert names, f"recon.{module} has no place in LAYERS"
    return LAYERS.index(max(names, key=len))


def modules() -> list[Path]:
    return sorted(
        path
        for path in (ROOT / "recon").rglob("*.py")
        if path.parent != ROOT / "recon" or not path.name.startswith("__")
    )


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "recon").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_its_left(path: Path) -> None:
    if name_of(path) in ("data", "config", "dashboards", "training", "modules", "filters", "actions"):  # hold nothing
        return
    here, known = layer(name_of(path)), {name_of(each) for each in modules()}
    for node in ast.walk(ast.parse(path.read_text())):
        targets = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "recon":
            rest = node.module.split(".")[1:]
            # A name may be a module of the package that it is imported from.
            targets = [
                each if each in known else ".".join(rest) for each in (".".join([*rest, a.name]) for a in node.names)
            ]
        for target in filter(None, targets):
            if target != "__version__":
                assert layer(target) <= here, f"recon.{name_of(path)} imports recon.{target}"


def test_plain_torch_parts_need_neither_lightning_nor_hydra() -> None:
    parts = ["nets.unet", "losses", "metrics", "keyed", "degradations", "pair", "data.augment", "data.store"]
    code = (
        "import sys, recon; assert 'torch' not in sys.modules\n"
        "recon.metrics.psnr, recon.degradations.MotionBlur, recon.keyed.keys\nfrom recon.nets import DCGAN, UNet\n"
        "assert not hasattr(recon, 'nope') and not hasattr(recon, '_nope')\n"
        f"import importlib\nfor part in {parts}:\n    importlib.import_module(f'recon.{{part}}')\n"
        "    found = {'lightning', 'hydra', 'omegaconf', 'wandb'} & set(sys.modules); assert not found, (part, found)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
