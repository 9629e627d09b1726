"""The identity of a run: the configuration, code and data that its result depends on; it imports no torch."""

from __future__ import annotations

import ast
import glob
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from recon.data.sets import SETS, folder_of
from recon.runs.folder import RunFolder, action_of
from recon.trust import trusted

# The parts of recon that a result can depend on, files and folders; a change of any other makes no new run.
_COUNTED = (
    "build.py", "codec/tables.py", "data", "degradations", "filters", "health.py", "keyed.py", "losses", "metrics",
    "modules", "nets", "pair.py", "training",
)  # fmt: skip
# Keys of the configuration that cannot change what a run computes; the data that `data.root` leads to counts below.
WITHOUT_EFFECT = (
    "data", "logger", "sweep", "checkpoint", "resume", "recipe", "allow_network", "expected",
    "trainer.enable_progress_bar",
)  # fmt: skip


def fingerprint(config: Mapping[str, Any]) -> str:
    """Name a run by what it computes: equal for equal resolved configurations, code and data; 16 hexadecimal digits."""
    return _combined(identity(config), code_version(), data_version(config))


def fingerprint_of(folder: RunFolder) -> str:
    """Name what a run folder holds, by the configuration in it and by the code and data that its record names.

    A record may be a stranger's: its own word for the fingerprint is not read. The code and the data are only known by
    its word, but count together with an equal configuration alone.
    """
    code, data = (str(folder.environment.get(key, "")) for key in ("code", "data"))
    return _combined(identity(folder.config), code, data)


def identity(config: Mapping[str, Any]) -> str:
    """Name a resolved configuration without the keys that cannot change a result: 16 hexadecimal digits."""
    without = (*WITHOUT_EFFECT, *chosen_by_budget(config))
    return _combined(json.dumps(_without(config, without), sort_keys=True, ensure_ascii=False))


def chosen_by_budget(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the keys that a budget stands for: the length that it came to on a machine, and the precision."""
    return ("trainer.max_steps", "trainer.max_epochs", "trainer.precision") if config.get("budget") else ()


def data_version(config: Mapping[str, Any]) -> str:
    """Name the files on this machine that a run reads, by their names, sizes and times: 16 hexadecimal digits.

    These are the files that a text of the task or degradation names (a file, a folder, a glob), those of the task's set
    below `data.root`, and the weights that an evaluation tests. Nothing is opened.
    """
    texts = [*_texts(config.get("task")), *_texts(config.get("degradation"))]
    files = [line for text in dict.fromkeys(texts) for line in _listed(text, with_time=True)]
    data = config.get("data")
    target = str((config.get("task") or {}).get("_target_", "")).rsplit(".", 1)[-1]
    if isinstance(data, Mapping):
        root = Path(str(data.get("root")))
        public = [root / _SETS[target]] if target in _SETS else []
        public += [folder for text in texts if text in SETS and (folder := folder_of(text, root))]
        # Copies of a public set are the same, whenever they were made.
        files += [line for folder in public for line in _listed(str(folder), with_time=False)]
    if action_of(config) == "evaluate" and config.get("run"):
        files += _listed(os.path.join(str(config["run"]), "checkpoints", "best.ckpt"), with_time=True)
    return _combined(*files)


# The folder below `data.root` of each public set that may be there in part.
_SETS = {"CIFAR10": "cifar10"}


def _listed(text: str, with_time: bool) -> list[str]:
    """List name, size and time of the files that a text names; none where it names nothing that is there."""
    path = os.path.expanduser(text)
    if not text or len(text) > 4096 or "\0" in text or not (os.sep in path or os.path.exists(path) or "*" in path):
        return []
    if os.path.isdir(path):
        below = (os.path.join(top, name) for top, _, inner in os.walk(path) for name in inner)
        names: Iterable[str] = (name for name in below if f"{os.sep}." not in name[len(path) :])
    elif os.path.exists(path):
        names = [path]
    else:
        names = glob.iglob(path, recursive=True)
    lines = []
    for name in names:
        try:
            status = os.stat(name)
        except OSError:
            continue
        lines.append(f"{os.path.relpath(name, path)} {status.st_size} {status.st_mtime_ns if with_time else 0}")
    return sorted(lines)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "_target_":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _without(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    inner: dict[str, tuple[str, ...]] = {}
    for group, _, key in (key.partition(".") for key in keys if "." in key):
        inner[group] = (*inner.get(group, ()), key)
    kept = {key: value for key, value in config.items() if key not in keys}
    return {
        key: _without(value, inner[key]) if key in inner and isinstance(value, Mapping) else value
        for key, value in kept.items()
    }


def code_version() -> str:
    """Name the code of recon and of what RECON_TRUST names, without comments and docstrings: 16 hexadecimal digits."""
    own = trusted()
    return _combined(_own_code(), *_trusted_code(own)) if own else _own_code()


@lru_cache(maxsize=1)
def _own_code() -> str:
    """Name the parts of recon that a result depends on."""
    here = Path(__file__).parents[1]
    files = [path for part in _COUNTED for path in sorted((here / part).rglob("*.py")) or [here / part]]
    return _combined(*(f"{path.relative_to(here).as_posix()} {_content(path)}" for path in files))


def _trusted_code(names: Iterable[str]) -> Iterator[str]:
    for name in sorted(names):
        try:
            # That of the top package alone, as to look for an inner one would run the outer's code.
            spec = importlib.util.find_spec(name.split(".")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        for path in sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]:
            yield f"{name} {path.name} {_content(path)}"


def _content(path: Path) -> str:
    """Name the code of a file by its syntax tree without docstrings; of one that is no Python, its bytes."""
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return hashlib.sha256(ast.dump(tree).encode(errors="surrogatepass")).hexdigest()


def _combined(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode(errors="surrogatepass")).hexdigest()[:16]
