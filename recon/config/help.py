"""What can be typed: the text of `python run.py --help`, and a sentence for what was mistyped."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from recon.config.conf import choices, command, read_choice

_HEAD = """\
recon trains, tests and records neural networks on images: model × task × degradation × accelerator.

  python run.py model=gan task=mnist trainer.devices=2
  python run.py model=restoration degradation=blur degradation.sigma=2 trainer.max_epochs=3 seed=3
  python run.py -m model=inpainting,restoration seed=1,2          one run for each combination; again: what is missing
  python run.py resume=outputs/<day>/<run>                        continue a run that was stopped or killed
  python run.py action=evaluate run=outputs/<day>/<run>           test a finished run again
  python run.py action=list list.sort=test/psnr                   the runs so far, the best first
  python run.py action=report runs='outputs/**'                   one page that compares them, outputs/report.html
  python run.py experiment=mnist_cnn                              a classic system with its expected number
  python run.py --cfg job                                         the whole configuration, every key with its value
  eval "$(python run.py -sc install=bash)"                        tab completion for this shell

Any key can be set (trainer.max_time=00:00:03:00, task.batch_size=256); choices, with * for the default:
"""


def help_text(folders: Sequence[Path]) -> str:
    """List the choices of every group, a line each.

    Args:
        folders: those of configuration files, the user's own first, recon's last.
    """
    chosen = _defaults(folders[-1] / "config.yaml")
    parts = [_HEAD.replace("python run.py", command())]
    groups = {path.parent.relative_to(folder).as_posix() for folder in folders for path in folder.glob("*/**/*.yaml")}
    for group in sorted(groups):
        parts.append(f"\n{group}=\n")
        for name, path in sorted(choices(group, folders).items()):
            mark = "*" if chosen.get(group) == name else " "
            parts.append(f" {mark}{name:<20} {_summary(path)}\n")
    return "".join(parts)


def _summary(path: Path) -> str:
    """Return the first comment of a file that is not for Hydra."""
    comments = (line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _defaults(path: Path) -> dict[str, str]:
    """Return the group choices that stand as `- group: choice` in the defaults list."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines() if line.startswith("  - "))
    pairs = (line.removeprefix("- ").removeprefix("override ").split(": ", 1) for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def hydra_sentence(error: BaseException, folders: Sequence[Path]) -> str | None:
    """Say in one sentence what Hydra found wrong with the command line; None for any other exception."""
    if not _is_hydras(error):
        return None
    messages = [str(error)]
    while error.__cause__ is not None and _is_hydras(error.__cause__):
        error = error.__cause__
        messages.append(str(error))
    for message in messages:
        if match := re.search(r"Could not (?:find|load) '(?:\./)?([^']+?)/+(\w*)'", message):
            group, choice = match.groups()
            known = "|".join(sorted(choices(group, folders)))
            return f"{group}={choice}: there is no such choice; choose one of {known}"
        if match := re.search(r"Could not override '([^']+)'", message):
            return f"{match[1]}: {_remedy(folders, match[1])}"
    lines = [line.strip() for line in messages[-1].splitlines()]
    text = "; ".join(line for line in lines if line and "hydra.cc" not in line)
    is_grammar = re.search("LexerNoViableAlt|mismatched|extraneous|missing EQUAL|no viable|token recognition", text)
    return _grammar_sentence() if is_grammar else text


def _grammar_sentence() -> str:
    """Name the word of the command line that Hydra cannot read, and say how to write it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for word in sys.argv[1:]:
        try:
            if not word.startswith("-"):
                OverridesParser.create().parse_override(word)
        except Exception:  # Hydra's own kinds, each for one fault of grammar
            key, equals, value = word.partition("=")
            if not equals:
                return f"{word}: it is no key=value; write {word}=<value>"
            inner = value.strip("'").replace("'", "\\'")
            return f"{key}: Hydra cannot read {value!r}; quote it for the shell and for Hydra: \"{key}='{inner}'\""
    return "Hydra cannot read the command line; quote values as \"key='value'\""


def _is_hydras(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf")


# What other tools call a key, and what it is called here.
_ALIASES = {
    "learning_rate": "optimizer.lr", "epochs": "trainer.max_epochs", "steps": "trainer.max_steps", "net": "model/net",
    "batch": "task.batch_size", "gpus": "trainer.devices", "dataset": "task", "data_dir": "data.root", "patience":
    "early_stopping", "weight_decay": "optimizer.weight_decay", "project": "logger.project",
}  # fmt: skip


def _remedy(folders: Sequence[Path], key: str) -> str:
    """Say what to do about a key that the composed configuration does not have."""
    action = _typed_action()
    takers = [name for name in sorted(choices("action", folders)) if key.split(".")[0] in _own_keys(folders, name)]
    if takers and action not in takers:
        return f"action={action} does not use it; leave it out, or add action={'|'.join(takers)}"
    return f"there is no such key; {_nearest_key(folders, key)}"


def _typed_action() -> str:
    return next((word.partition("=")[2] for word in reversed(sys.argv) if word.startswith("action=")), "train")


def _own_keys(folders: Sequence[Path], action: str) -> set[str]:
    """Return the keys that an action has for itself."""
    return (read_choice("action", action, folders) or {}).keys() - {"action", "hydra", "defaults"}


def _nearest_key(folders: Sequence[Path], key: str) -> str:
    """Suggest what a key may have been meant to be, of those beside it in the configuration."""
    known = _keys(folders)
    node, _, name = key.rpartition(".")
    beside = sorted(other for other in known if other.rpartition(".")[0] == node)
    nearest = difflib.get_close_matches(key, beside, 1, 0.8) if node else []
    # Elsewhere only the same name, or a common other name, is meant.
    same = sorted((other for other in known if other.rpartition(".")[2] == name), key=lambda k: (k.count("."), k))
    meant = nearest or [k for k in same if k != key][:1] or [k for k in (_ALIASES.get(name),) if k]
    if node == "model.net" and name in ("channels", "in_channels", "image_size", "num_classes", "scale"):
        return "it follows from the task; leave it out"
    if same and node and key in known:
        group = node.replace(".", "/")
        files = choices(group, folders)
        have = [choice for choice in sorted(files) if re.search(rf"^{name}:", _read(files[choice]), re.M)]
        if have:
            return f"the chosen {group} has none; choose {group}={'|'.join(have)}"
    meant = meant or ([] if beside and node else difflib.get_close_matches(key, sorted(known), 1))
    if meant:
        return f"did you mean {meant[0]}?"
    if beside:
        return f"choose one of {', '.join(other.rpartition('.')[2] for other in beside)}"
    return f"`{command()} --cfg job` shows all keys"


def _keys(folders: Sequence[Path]) -> set[str]:
    """List the keys of all files with the nodes that they are in, such as "optimizer.lr", and the groups."""
    found: set[str] = set()
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            found |= _keys_of(path, path.parent.relative_to(folder).as_posix())
        found |= {path.name for path in folder.iterdir() if path.is_dir() and path.name != "hydra"}
    return {key for key in found if key.split(".")[0] != "hydra"}


def _keys_of(path: Path, group: str) -> set[str]:
    """List the keys of a file; its package is that of its header, else its group."""
    if group.split("/")[0] in ("experiment", "hydra", "accelerator", "recipe"):
        return set()
    text = _read(path)
    header = re.match(r"# @package (\w+)", text)
    package = header[1] if header else group
    above = [] if package in (".", "_global_") else package.split("/")
    found: set[str] = set()
    nodes: list[tuple[int, str]] = []
    for line in text.splitlines():
        if (key := re.match(r"( *)(\w+):", line)) is None or key[2] in ("_target_", "_partial_", "defaults"):
            continue
        nodes = [(indent, name) for indent, name in nodes if indent < len(key[1])] + [(len(key[1]), key[2])]
        found.add(".".join([*above, *(name for _, name in nodes)]))
    return found


def _read(path: Path) -> str:
    return path.read_text("utf-8")
