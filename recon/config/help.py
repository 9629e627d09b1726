"""The text of `python run.py --help`."""

import re
from collections.abc import Sequence
from pathlib import Path

from recon.config.conf import choices, groups, program

_HEAD = """\
recon trains, tests and records neural networks on images: model × task × degradation × accelerator.

  python run.py model=gan task=mnist trainer.devices=2
  python run.py model=restoration degradation=blur degradation.sigma=2 trainer.max_epochs=3 seed=3
  python run.py model=classifier debug=true                       one batch of each split on the CPU, every check on
  python run.py -m model=inpainting,restoration seed=1,2          one run for each combination; again: what is missing
  python run.py resume=outputs/<day>/<run>                        continue a run that was stopped or killed
  python run.py action=evaluate run=outputs/<day>/<run>           test a finished run again
  python run.py action=list list.sort=test/psnr                   the runs so far, the best first
  python run.py action=report runs='outputs/**'                   one page that compares them, outputs/report.html
  python run.py experiment=mnist_cnn                              a classic system with its expected number
  python run.py --config-dir <folder> model/net=<own>             code and choices of your own, docs/own-code.md
  python run.py --help model                                      the choices of one group alone
  python run.py --cfg job                                         the whole configuration, every key with its value
  eval "$(python run.py -sc install=bash)"                        tab completion for this shell

Any key can be set (trainer.max_time=00:00:03:00, task.batch_size=256); choices, with * for the default:
"""


def help_text(folders: Sequence[Path], words: Sequence[str] = ()) -> str:
    """List the choices of every group, a line each.

    Args:
        folders: those of configuration files, the user's own first, recon's last.
        words: the rest of the command line; where it names groups, only these are listed.
    """
    chosen = _defaults(folders[-1] / "config.yaml")
    chosen |= _defaults(folders[-1] / "recipe" / f"{chosen['recipe']}.yaml")
    known = groups(folders)
    named = [group for group in known if {group, f"{group}="} & set(words)]
    parts = [] if named else [_HEAD.replace("python run.py", program())]
    for group in named or known:
        parts.append(f"\n{group}=\n")
        for name, path in sorted(choices(group, folders).items()):
            mark = "*" if chosen.get(group) == name else " "
            parts.append(f" {mark}{name:<20} {summary(path)}\n")
    return "".join(parts)


def summary(path: Path) -> str:
    """Return the first comment of a file that is not for Hydra."""
    comments = (line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _defaults(path: Path) -> dict[str, str]:
    """Return the group choices that stand as `- group: choice` in the defaults list."""
    found = re.findall(r"^  - (?:override )?/?([\w/]+)(?:@\S+)?: ['\"]?(\w+)", path.read_text("utf-8"), re.M)
    return dict(found)
