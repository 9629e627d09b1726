"""README, docs and recipes say what is there: commands compose, choices exist, recipes touch few files."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, Typed, choices

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "outputs" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# The most files that each addition may touch.
MOST = {
    "a degradation": 3, "a net": 3, "a loss": 2, "a task": 2, "a module with its own measure and picture": 5,
    "a measure": 2, "an action": 2, "a dashboard": 2, "a training option": 2,
}  # fmt: skip


def commands() -> list[tuple[str, list[str]]]:
    """Every command of the pages: in blocks of code, and in tables of commands and figures."""
    found = []
    for page in PAGES:
        text = re.sub(r"(outputs/)?<[^>]*>(/<run>)?", "RUN", page.read_text())
        for block in re.findall(r"```bash\n(.*?)```", text, re.S):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if "run.py" in words:
                    found.append((page.name, words[words.index("run.py") + 1 :]))
        if page.name not in ("README.md", "figures.md", "recipes.md"):
            continue
        for row in re.findall(r"^\|.*\|$", text, re.M):
            for cell in row.split("|"):
                if match := re.match(r" `((?:-m )?\w+=[^`]*)` ", cell):
                    found.append((page.name, shlex.split(match[1])))
    return found


@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command[0]} {' '.join(command[1])}"[:90])
def test_a_command_composes(command: tuple[str, list[str]], made: Path, typed: Typed) -> None:
    words = [word.replace("=RUN", f"={made}/classifiers/1") for word in command[1]]
    if {"--help", "-sc", "--config-dir"} & set(words):  # other tests run these
        return
    words = [word.split(",")[0] if "," in word and not set("[{'") & set(word) else word for word in words]
    status, output, errors = typed(*(word for word in words if word != "-m"), "--cfg", "job")
    assert status == 0, errors
    assert "action:" in output


def test_the_front_of_the_readme_is_short() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(line for line in text.splitlines() if not line.startswith("|")))
    assert len(re.findall(r"[\w'’]+", text)) <= 300


def test_the_table_of_choices_is_that_of_the_configuration() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", (ROOT / "docs" / "choices.md").read_text(), re.M)
    table = {group: sorted(re.findall(r"`(\w+)`", cell)) for group, cell in rows}
    groups = {path.parent.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").glob("*/**/*.yaml")}
    assert table == {group: choices(group) for group in groups}


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
