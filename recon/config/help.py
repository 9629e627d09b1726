"""What can be typed: the text of `python run.py --help`, and a sentence for what was mistyped."""

import difflib
import re
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
        if found := re.search(r"Could not find '(?:\./)?(.+)/(\w+)'", text):
            group, choice = found.groups()
            return f"{group}={choice}: there is no such choice; choose one of {'|'.join(_choices(conf, group))}"
        if found := re.search(r"Could not override '([^']+)'", text):
            return f"{found[1]}: there is no such key; {_nearest_key(conf, found[1].split('.')[-1])}"
    return "; ".join(line.strip() for line in told[-1].splitlines() if line.strip())


def _is_hydras(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf")


def _choices(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _nearest_key(conf: Path, key: str) -> str:
    """Suggest what a key may have been meant to be, of all that the files have."""
    known = {word for path in conf.rglob("*.yaml") for word in re.findall(r"^ *(\w+):", path.read_text("utf-8"), re.M)}
    nearest = difflib.get_close_matches(key, sorted(known), 1)
    return f"did you mean {nearest[0]}?" if nearest else "`python run.py --cfg job` shows all keys"
