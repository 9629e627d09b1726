"""README, docs and recipes say what is there: commands compose, choices exist, recipes touch few files."""

import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, Typed, choices, data_root
from documents import PAGES, blocks, bring, commands, filled, first_shown, in_block, shown_files

from recon import build
from recon.actions.anomalies import Anomalies
from recon.actions.calibrate import Calibrate
from recon.actions.compress import Compress
from recon.actions.curve import Curve
from recon.actions.decompress import Decompress
from recon.actions.embed import Embed
from recon.actions.evaluate import Evaluate
from recon.actions.explain import Explain
from recon.actions.export import Export
from recon.actions.generate import Generate
from recon.actions.project import Project
from recon.actions.rates import Rates
from recon.actions.restore import Restore
from recon.actions.search import Search
from recon.actions.shrink import Shrink
from recon.actions.train import Train
from recon.actions.verify import Verify
from recon.sweep.pool import Pool

# The most files that each addition may touch.
MOST = {
    "a degradation": 3, "a net": 3, "a loss": 2, "a task": 2, "a module with its own measure and picture": 5,
    "a measure": 2, "an action": 2, "a dashboard": 2, "a training option": 2,
}  # fmt: skip
# Commands that are not carried out here, by a part of each, and why.
ELSEWHERE = {
    "hydra/launcher=submitit": "it needs a SLURM cluster with two nodes of four GPUs (see tests/sweep/test_slurm.py)",
    "action=serve": "it serves until it is stopped (see tests/restore/test_serve.py)",
    "action=embed": "it measures 65,000 codes for minutes (see tests/test_codes.py)",
    "experiment=denoise_": "it trains for a length of time (see tests/test_every_combination.py)",
    "experiment=jpeg_": "it trains for a length of time (see tests/test_every_combination.py)",
    "experiment=inpaint_photo": "it trains for a length of time (see tests/test_every_combination.py)",
    "experiment=super_resolution": "it trains for a length of time (see tests/test_every_combination.py)",
    "trainer.max_steps=2500": "it is nine trainings (see tests/test_every_combination.py)",
    "method=mean_fill,biharmonic": "it is thirty tests (see tests/modules/test_baseline.py)",
    "task=cifar10 task.epochs=20": "it is three trainings (see tests/modules/test_modules.py)",
    "model=deep_image_prior": "it fits each image for minutes (see tests/modules/test_without_clean_images.py)",
    "task=bsd400": "its photographs are downloaded by hand; tests/modules/test_baseline.py has two sets of its own",
    "trainer.devices=2": "its second process would load the command line of the tests (see tests/test_devices.py)",
}
DOWNLOADED = ("mnist", "cifar10")  # carried out where they are there already
TABLES = [ROOT / "docs" / "figures.md", ROOT / "docs" / "recipes.md"]
OWN_CODE = ROOT / "docs" / "own-code.md"  # its commands need the files that it shows
ALL = first_shown(page for page in PAGES if page != OWN_CODE)
SHORT = [word for word in QUICK if not word.startswith("accelerator")]


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader is supposed to have."""
    place = tmp_path_factory.mktemp("reader")
    bring(place)
    return place


@pytest.fixture
def reader(brought: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type commands in a copy of that folder, with its home."""
    shutil.copytree(brought, typed.tmp_path, dirs_exist_ok=True)
    os.utime(typed.tmp_path / "outputs" / "one" / "environment.json")  # the last run
    monkeypatch.setenv("HOME", str(typed.tmp_path / "home"))
    return typed


def check_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands end where images would be read: all is composed and checked, nets are built and tried."""
    for action in (Train, Evaluate):
        monkeypatch.setattr(action, "__call__", lambda self, config, folder, about: build.check(config))
    # Of these the keys are checked before.
    for action in (Restore, Verify, Export, Generate, Project, Compress, Decompress, Rates, Embed, Search, Anomalies,
                   Curve, Calibrate, Explain, Shrink):  # fmt: skip
        monkeypatch.setattr(action, "__call__", lambda self, config, folder, about: None)
    monkeypatch.setattr(Pool, "run", lambda self, source: None)


@pytest.mark.slow  # each builds its model
def test_every_command_passes_its_checks(reader: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of long tables are composed alone, as their nets are built in tests/test_every_combination.py."""
    check_alone(monkeypatch)
    assert len(ALL) > 50
    failed = []
    for command in ALL:
        is_elsewhere = "submitit" in str(command) or ("action=serve" in str(command) and find_spec("gradio") is None)
        if not is_elsewhere:
            status, _, errors = reader(*command.words, *(["--cfg", "job"] if command.page in TABLES else []))
            failed += [f"{command}\n  {errors[-400:]}"] if status == 2 or errors.strip() else []
            # A later command may take the run that this one would have trained.
            made = [word.partition("=")[2] for word in command.words if word.startswith("hydra.run.dir=")]
            for folder in made:
                shutil.copytree("outputs/one", folder, dirs_exist_ok=True)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "python.md"], ids=lambda page: page.stem)
def test_what_is_read_first_runs_as_typed(page: Path, reader: Typed) -> None:
    """Blocks of commands and of Python, one after another, in a folder of a reader."""
    names: dict[str, object] = {}
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", page.read_text(), re.S):
        if language == "python":
            exec(compile(filled(block), page.name, "exec"), names)
        for command in in_block(page, block) if language == "bash" else []:
            short = SHORT if "action=restore" not in command.words else ()
            status, _, errors = reader(*command.words, *short)
            assert status == 0, (command, errors)
    assert Path("restored.png").is_file()


def test_own_code_runs_as_it_is_shown(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    files = shown_files(OWN_CODE)
    assert blocks(OWN_CODE, "")[0].split() == list(files)
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (trusted,) = re.findall(r"^export RECON_TRUST=(\w+)$", OWN_CODE.read_text(), re.M)
    monkeypatch.setenv("RECON_TRUST", trusted)
    for command in commands(OWN_CODE):
        with monkeypatch.context() as patch:
            if "-m" in command.words:
                patch.setattr(Pool, "run", lambda self, source: None)
            status, output, errors = typed(*command.words, *SHORT)
        assert not errors.strip(), command
        assert status == 0 or "2 jobs, 0 of them done before" in output
    # The last command took the choices of the run without their files.
    (record,) = Path("outputs").glob("*/*_evaluate*/environment.json")
    assert json.loads(record.read_text())["choices"]["degradation"] == "fade"
    # What is missing later is told.
    monkeypatch.delenv("RECON_TRUST")
    later = ("action=evaluate", "run=last", *SHORT)
    assert "set the environment variable RECON_TRUST=mine" in typed.refused(*later)
    monkeypatch.setenv("RECON_TRUST", trusted)
    monkeypatch.delitem(sys.modules, trusted)
    Path("mine.py").rename("moved.py")
    assert "run the command in the folder of mine, or add that to PYTHONPATH" in typed.refused(*later)


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(command.page for command in ALL), ids=lambda page: page.stem)
def test_every_command_runs(page: Path, reader: Typed) -> None:
    """Each trains two steps, where this machine has what it needs."""
    short = [word for word in SHORT if "logger" not in word]
    for command in (command for command in ALL if command.page == page):
        text = str(command)
        is_here = (data_root() / "mnist").is_dir() or not any(name in text for name in DOWNLOADED)
        if is_here and not any(part in text for part in ELSEWHERE):
            words = (
                []
                if "--" in text
                or re.search(r"action=(list|report|cost|prune|restore|verify|export|(de)?compress|rates)|resume=", text)
                else short
            )
            fewer = ["sweep.trials=2"] if "sweep=optuna" in text else []
            if "resume=last" in command.words:
                os.utime("outputs/one/environment.json")  # the one that was interrupted
            status, output, errors = reader(*command.words, *words, *fewer)
            logs = [path.read_text()[-400:] for path in Path("outputs").rglob("output.log")] if status else []
            assert status == 0, "\n".join([str(command), output, errors, *logs])


def test_the_front_of_the_readme_is_short() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(line for line in text.splitlines() if not line.startswith("|")))
    assert len(re.findall(r"[\w'’]+", text)) <= 300


def test_the_table_of_choices_is_that_of_the_configuration() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", (ROOT / "docs" / "choices.md").read_text(), re.M)
    table = {group: sorted(re.findall(r"`(\w+)`", cell)) for group, cell in rows}
    groups = {path.parent.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").glob("*/**/*.yaml")}
    assert table == {group: choices(group) for group in groups}


def test_the_tree_is_that_of_the_repository() -> None:
    (tree,) = (block for block in blocks(ROOT / "CONTRIBUTING.md", "") if "run.py" in block)
    shown = re.findall(r"^( *)([\w./]+)  ", tree + "recon/  ", re.M)
    assert {name for indent, name in shown if indent} == names_in(ROOT / "recon")
    # Beside them are the files that every project has.
    assert {name for indent, name in shown if not indent} == {*(n for n in names_in(ROOT) if n.endswith("/")), "run.py"}


def names_in(folder: Path) -> set[str]:
    """What of a folder is in the repository, folders with a slash at the end."""
    paths = (path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    return {f"{path.name}/" if path.is_dir() else path.name for path in paths if not is_left_behind(path)}


def is_left_behind(path: Path) -> bool:
    """Return whether a file or folder is one that .gitignore names, or no code."""
    ignored = (ROOT / ".gitignore").read_text().split()
    return path.name == "py.typed" or (path.parent == ROOT and f"{path.name}/" in ignored)


def recipes() -> dict[str, list[str]]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    parts = re.split(r"^### Add (.*)$", text, flags=re.M)[1:]
    return {title: re.findall(r"^- `([^`]+)`", body, re.M) for title, body in zip(parts[::2], parts[1::2], strict=True)}


def test_a_recipe_touches_few_files_that_have_a_place() -> None:
    assert recipes().keys() == MOST.keys()
    for title, paths in recipes().items():
        assert 0 < len(paths) <= MOST[title], title
        for path in paths:
            assert (ROOT / path).exists() if "<" not in path else (ROOT / path).parent.is_dir(), path


def test_no_text_sends_anyone_to_another_project() -> None:
    texts = [*PAGES, ROOT / "pyproject.toml", *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "recon").rglob("*.py")]
    for path in texts:
        assert not re.search(r"pip install '?recon(?!-images)\b", path.read_text()), path
