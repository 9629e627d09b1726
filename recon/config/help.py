"""What can be typed: the text of `python run.py --help`, and a sentence for what was mistyped."""

import difflib
import re
import sys
from pathlib import Path

_HEAD = """\
recon trains, tests and records neural networks on images: model × task × degradation × accelerator.

  python run.py model=gan task=mnist trainer.devices=2
  python run.py model=restoration degradation=blur degradation.sigma=2 trainer.max_epochs=3 seed=3
  python run.py -m model=inpainting,restoration seed=1,2          one run for each combination; again: what is missing
  python run.py resume=outputs/<day>/<run>                        go on with a run that was stopped or killed
  python run.py action=evaluate run=outputs/<day>/<run>           test a finished run again
  python run.py action=list list.sort=test/psnr                   the runs so far, the best first
  python run.py action=report runs='outputs/**'                   one page that compares them, outputs/report.html
  python run.py experiment=mnist_cnn                              a classic system with its expected number
  python run.py --cfg job                                         the whole configuration, every key with its value
  eval "$(python run.py -sc install=bash)"                        tab completion for this shell

Any key can be set (trainer.max_time=00:00:03:00, task.batch_size=256); choices, with * for the default:
"""


def help_text(conf: Path) -> str:
    """List the choices of every group below `conf`, a line each."""
    chosen = _defaults(conf / "config.yaml")
    parts = [_HEAD]
    for group in sorted({path.parent.relative_to(conf).as_posix() for path in conf.glob("*/**/*.yaml")}):
        parts.append(f"\n{group}=\n")
        for path in sorted((conf / group).glob("*.yaml")):
            mark = "*" if chosen.get(group) == path.stem else " "
            parts.append(f" {mark}{path.stem:<20} {_summary(path)}\n")
    return "".join(parts)


def _summary(path: Path) -> str:
    """The first comment of a file that is not for Hydra."""
    comments = (line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _defaults(path: Path) -> dict[str, str]:
    """The group choices that stand as `- group: choice` in the defaults list."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines() if line.startswith("  - "))
    pairs = (line.removeprefix("- ").removeprefix("override ").split(": ", 1) for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def hydra_sentence(error: BaseException, conf: Path) -> str | None:
    """Tell what Hydra found wrong with the command line in one sentence; None for any other exception."""
    if not _is_hydras(error):
        return None
    told = [str(error)]
    while error.__cause__ is not None and _is_hydras(error.__cause__):
        error = error.__cause__
        told.append(str(error))
    for text in told:
        if found := re.search(r"Could not find '(?:\./)?([^']+?)/+(\w*)'", text):
            group, choice = found.groups()
            return f"{group}={choice}: there is no such choice; choose one of {'|'.join(_choices(conf, group))}"
        if found := re.search(r"Could not override '([^']+)'", text):
            return f"{found[1]}: there is no such key; {_nearest_key(conf, found[1])}"
    text = "; ".join(line.strip() for line in told[-1].splitlines() if line.strip() and "hydra.cc" not in line)
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


def _choices(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


# What other tools call a key, and what it is called here.
_ALIASES = {
    "learning_rate": "optimizer.lr", "epochs": "trainer.max_epochs", "steps": "trainer.max_steps", "net": "model/net",
    "batch": "task.batch_size", "gpus": "trainer.devices", "dataset": "task", "data_dir": "data.root", "patience":
    "early_stopping", "weight_decay": "optimizer.weight_decay", "project": "logger.project",
}  # fmt: skip


def _nearest_key(conf: Path, key: str) -> str:
    """Suggest what a key may have been meant to be, of those that stand at its level of the configuration."""
    known = _keys(conf)
    node, _, name = key.rpartition(".")
    beside = sorted(other for other in known if other.rpartition(".")[0] == node)
    nearest = difflib.get_close_matches(key, beside, 1, 0.8) if node else []
    # Elsewhere only the very name, or a common other name, is meant.
    same = sorted((other for other in known if other.rpartition(".")[2] == name), key=lambda k: (k.count("."), k))
    found = nearest or [k for k in same if k != key][:1] or [k for k in (_ALIASES.get(name),) if k]
    if node == "model.net" and name in ("channels", "in_channels", "image_size", "num_classes", "scale"):
        return "it follows from the task; leave it out"
    if same and node and key in known:
        group = node.replace(".", "/")
        have = [
            path.stem for path in sorted((conf / group).glob("*.yaml")) if re.search(rf"^{name}:", _read(path), re.M)
        ]
        if have:
            return f"the chosen {group} has none; choose {group}={'|'.join(have)}"
    found = found or ([] if beside and node else difflib.get_close_matches(key, sorted(known), 1))
    if found:
        return f"did you mean {found[0]}?"
    if beside:
        return f"choose one of {', '.join(other.rpartition('.')[2] for other in beside)}"
    return "`python run.py --cfg job` shows all keys"


def _keys(conf: Path) -> set[str]:
    """List the keys of all files with the nodes that they stand in, such as "optimizer.lr"."""
    found: set[str] = set()
    for path in conf.rglob("*.yaml"):
        group = path.parent.relative_to(conf).as_posix()
        if group.split("/")[0] in ("experiment", "hydra", "accelerator"):
            continue
        above = [] if group == "." else group.split("/")
        nodes: list[tuple[int, str]] = []
        for line in _read(path).splitlines():
            if (key := re.match(r"( *)(\w+):", line)) is None or key[2] in ("_target_", "_partial_", "defaults"):
                continue
            nodes = [(indent, name) for indent, name in nodes if indent < len(key[1])] + [(len(key[1]), key[2])]
            found.add(".".join([*above, *(name for _, name in nodes)]))
    return {key for key in found if not key.startswith("hydra")} | set(_groups(conf))


def _groups(conf: Path) -> list[str]:
    return sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name != "hydra")


def _read(path: Path) -> str:
    return path.read_text("utf-8")
