"""A sentence for each thing that was mistyped; it imports neither torch nor Lightning."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from recon.config.conf import choices, command, groups, read_choice
from recon.config.help import summary
from recon.errors import InputError

# What other tools call a key, and what it is called here.
_ALIASES = {
    "learning_rate": "optimizer.lr", "epochs": "trainer.max_epochs", "steps": "trainer.max_steps", "net": "model/net",
    "batch": "task.batch_size", "gpus": "trainer.devices", "dataset": "task", "data_dir": "data.root", "patience":
    "early_stopping", "weight_decay": "optimizer.weight_decay", "project": "logger.project", "device": "accelerator",
    "architecture": "model/net", "arch": "model/net", "name": "logger.name", "criterion": "model/loss", "optim":
    "optimizer", "output_dir": "hydra.run.dir", "noise_level": "degradation.sigma", "num_epochs": "trainer.max_epochs",
}  # fmt: skip
# Likewise of choices.
_CHOICES = {"cuda": "gpu", "eval": "evaluate", "test": "evaluate", "fit": "train"}
_USES = ("predict", "infer", "inference", "apply", "denoise")


def check_flags(arguments: Sequence[str], folders: Sequence[Path]) -> None:
    """Raise InputError for a flag that Hydra does not know, a key that is taken away, or several choices at once."""
    from hydra._internal.utils import get_args_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            words = get_args_parser().parse_args(list(arguments)).overrides
    except SystemExit as error:
        if not error.code:
            raise
        reason = (said.getvalue().splitlines() or ["?"])[-1].rpartition("error: ")[2]
        flag = reason.partition("unrecognized arguments: ")[2].split(" ")[0]
        raise InputError(_flag_sentence(arguments, flag, folders) or f"{reason}; {_help()}") from error
    for word in words:
        if word.startswith("~") and "." not in word:
            raise InputError(f"{word}: recon needs every key of its configuration; set it to a value instead")
        group, _, value = word.lstrip("+").partition("=")
        if value.startswith("[") and group != "logger" and choices(group, folders):
            raise InputError(f"{group}: it takes one choice; -m {group}={value.strip('[]')} makes a run with each")


def _flag_sentence(arguments: Sequence[str], flag: str, folders: Sequence[Path]) -> str | None:
    """Say how a key that was typed like an option, `--model gan`, is typed; None where it is no key."""
    name, equals, value = flag.partition("=")
    key = name.lstrip("-").replace("-", "_")
    if not key or not (meant := key if key in _keys(folders) else _meant(folders, key)):
        return None
    if not equals and name in arguments:
        following = list(arguments[arguments.index(name) + 1 :][:1])
        value = next((word for word in following if not word.startswith("-") and "=" not in word), "<value>")
    return f"{name}: keys are typed without dashes; write {meant}={value or '<value>'}"


def hydra_sentence(error: BaseException, folders: Sequence[Path]) -> str | None:
    """Say in one sentence what Hydra found wrong with the command line; None for any other exception."""
    if isinstance(error, ValueError) and "Config group override" in str(error):
        typed = (word.lstrip("+").partition("=")[0] for word in sys.argv if set("{[") & set(word))
        return next((found for key in typed if (found := _not_a_name(folders, key))), str(error))
    if not _is_hydras(error):
        return None
    messages = [str(error)]
    while error.__cause__ is not None and _is_hydras(error.__cause__):
        error = error.__cause__
        messages.append(str(error))
    for message in messages:
        if match := re.search(r"Could not (?:find|load) '(?:\./)?([^']+)'", message):
            group = max((each for each in groups(folders) if match[1].startswith(f"{each}/")), key=len, default="")
            return _choice_sentence(folders, group, match[1].removeprefix(group).lstrip("/"))
        if match := re.search(r"Could not override '([^']+)'", message):
            return _not_a_name(folders, match[1]) or f"{match[1]}: {_remedy(folders, match[1])}"
        if match := re.search(r"Additional config directory '(.*)' not found", message):
            return f"--config-dir: there is no folder {match[1]}; give the one that holds your choices of groups"
        if match := re.search(r"Ambiguous value for argument '([^'=]+)=(.*)'", message):
            return _several_sentence(*match.groups())
    lines = [line.strip() for line in messages[-1].splitlines()]
    text = "; ".join(line for line in lines if line and "hydra.cc" not in line)
    is_grammar = re.search("LexerNoViableAlt|mismatched|extraneous|missing EQUAL|no viable|token recognition", text)
    return _grammar_sentence(folders) if is_grammar else text


def _is_hydras(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf")


def _help() -> str:
    return f"`{command()} --help` shows what can be typed"


# Words that Hydra cannot read ----------------------------------------------------------------------------------------


def _grammar_sentence(folders: Sequence[Path]) -> str:
    """Name the word of the command line that Hydra cannot read, and say how to write it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = sys.argv[1:]
    for index, word in enumerate(typed):
        try:
            if not word.startswith("-"):
                OverridesParser.create().parse_override(word)
        except Exception:  # Hydra's own kinds, each for one fault of grammar
            key, equals, value = word.partition("=")
            if meant := _without_spaces(typed, index):
                return f"{meant.partition('=')[0]}: there is a space beside the =; write {meant}"
            if not equals:
                return f"{word}: it is no key=value; {_as_a_word(folders, word)}"
            inner = value.strip("'").replace("'", "\\'")
            return f"{key}: Hydra cannot read {value!r}; quote it for the shell and for Hydra: \"{key}='{inner}'\""
    return "Hydra cannot read the command line; quote values as \"key='value'\""


def _without_spaces(typed: Sequence[str], index: int) -> str | None:
    """Join `key =value`, `key= value` and `key = value` where a word is a part of one; None where it is none."""
    before, word, after = ("", *typed)[index], typed[index], (*typed, "", "")[index + 1 : index + 3]
    if before.endswith("=") and "=" not in word:
        return before + word
    if after[0] == "=" and after[1]:
        return f"{word}={after[1]}"
    return word + after[0] if after[0].startswith("=") and len(after[0]) > 1 else None


def _as_a_word(folders: Sequence[Path], word: str) -> str:
    if word.strip("-") in ("help", "version"):
        return f"write --{word}"
    if "/" in word or Path(word).suffix:
        return f"write task=folder task.path={word} for images of your own, or run={word} for a run"
    found = _groups_with(folders, word)
    return f"write {found[0]}={word}" if found else f"write {word}=<value>"


def _several_sentence(key: str, value: str) -> str:
    """Say how to type several values of a key, which Hydra takes for a sweep."""
    if key == "resume":
        return "resume: it continues one run; give one run folder"
    listed = "" if "/" in key or "." not in key else f", or write a list as '{key}=[{value}]'"
    return f"{key}: {value} are several values, which make a sweep; add -m{listed}"


# Choices -------------------------------------------------------------------------------------------------------------


def _not_a_name(folders: Sequence[Path], group: str) -> str | None:
    """Say that a group takes names where something else was typed, such as `model={a: 1}`; None for what is none."""
    known = choices(group, folders)
    if _typed_value(group) in known and "/" in group:
        return f"{group}: the chosen {group.split('/')[0]} takes none; leave it out"
    return f"{group}: it takes the name of a choice; choose one of {_listed(known)}" if known else None


def _choice_sentence(folders: Sequence[Path], group: str, choice: str) -> str:
    known = choices(group, folders)
    # Hydra takes a path such as /my/images apart.
    typed = [value for key, _, value in (word.partition("=") for word in sys.argv) if key == group]
    shown = typed[-1] if typed and "/" in typed[-1] and "," not in typed[-1] else choice
    if group == "task" and "/" in shown:
        return f"{group}={shown}: it is no name of a task; write task=folder task.path={shown} for images of your own"
    if group == "action" and choice in _USES:
        return f"action={choice}: there is no such action; to mend a picture write action=restore input=<picture>"
    found = _likely(known, choice)
    if not found and (others := _groups_with(folders, choice)):
        return f"{group}={choice}: {choice} is a choice of another group; did you mean {others[0]}={choice.lower()}?"
    remedy = f"did you mean {group}={_listed(found)}?" if found else f"choose one of {_listed(known)}"
    return f"{group}={shown}: there is no such choice; {remedy}"


def _likely(known: dict[str, Path], typed: str) -> list[str]:
    """Return the choices that were probably meant, by their names, else by the words of their lines in --help."""
    word = _CHOICES.get(typed.lower(), typed.lower())
    nearest = difflib.get_close_matches(word, known, 1, 0.7)
    if word in known or nearest:
        return [word] if word in known else nearest
    named = [name for name in known if len(word) > 3 and word in re.split("_", name)]
    described = (name for name in known if re.search(rf"\b{re.escape(word)}\b", summary(known[name]), re.IGNORECASE))
    return named or (list(described)[:4] if len(word) > 3 else [])


def _groups_with(folders: Sequence[Path], choice: str) -> list[str]:
    """Return the groups that have a choice of this name, the general ones first."""
    found = (group for group in groups(folders) if choice.lower() in choices(group, folders) and group != "debug")
    return sorted(found, key=lambda group: (group == "recipe", group.count("/")))


def _listed(names: Iterable[str]) -> str:
    return "|".join(sorted(names))


# Keys ----------------------------------------------------------------------------------------------------------------


def _remedy(folders: Sequence[Path], key: str) -> str:
    """Say what to do about a key that the composed configuration does not have."""
    action = _typed_value("action") or "train"
    takers = [name for name in sorted(choices("action", folders)) if key.split(".")[0] in _own_keys(folders, name)]
    if takers and action not in takers:
        meant = _meant(folders, key)
        instead = f"did you mean {meant}? Else leave" if meant not in (None, key) else "leave"
        return f"action={action} does not use it; {instead} it out, or add action={'|'.join(takers)}"
    return f"there is no such key; {_nearest_key(folders, key)}"


def _typed_value(key: str) -> str:
    return next((word.partition("=")[2] for word in reversed(sys.argv) if word.startswith(f"{key}=")), "")


def _own_keys(folders: Sequence[Path], action: str) -> set[str]:
    """Return the keys that an action has for itself."""
    return (read_choice("action", action, folders) or {}).keys() - {"action", "hydra", "defaults"}


def _nearest_key(folders: Sequence[Path], key: str) -> str:
    """Suggest what a key may have been meant to be."""
    known = _keys(folders)
    node, _, name = key.rpartition(".")
    if node == "model.net" and name in ("channels", "in_channels", "image_size", "num_classes", "scale"):
        return "it follows from the task; leave it out"
    if node and key in known:
        group = node.replace(".", "/")
        files = choices(group, folders)
        have = [choice for choice in sorted(files) if re.search(rf"^{name}:", _read(files[choice]), re.M)]
        if have:
            return f"the chosen {group} has none; choose {group}={'|'.join(have)}"
    if meant := _meant(folders, key):
        return f"did you mean {meant}?"
    beside = sorted(other.rpartition(".")[2] for other in known if node and other.rpartition(".")[0] == node)
    if beside:
        return f"choose one of {', '.join(beside)}"
    return f"{_help()}, and `{command()} --cfg job` all keys"


def _meant(folders: Sequence[Path], key: str) -> str | None:
    """Return the key that was probably meant, or the choice where that is of a group; None where none is alike."""
    known, value = _keys(folders), _typed_value(key)
    node, _, name = key.rpartition(".")
    beside = sorted(other for other in known if other.rpartition(".")[0] == node)
    nearest = difflib.get_close_matches(key, beside, 1, 0.8) if node else []
    # Elsewhere only the same name, or a common other name, is meant; that of a node with the same beginning first.
    same = [other for other in known if re.split("[./]", other)[-1] == name and other != key]
    same.sort(key=lambda other: (other.split(".")[0] != key.split(".")[0], other.count("."), other))
    alias = [_ALIASES[name]] if _ALIASES.get(name, key) != key else []
    alone = [] if beside and node else difflib.get_close_matches(key, sorted(known), 1)
    meant = next(iter([*nearest, *(alias if not node else []), *same, *alias, *alone]), None)
    if meant is None:
        is_choice = bool(_groups_with(folders, name)) and not node
        return f"{_groups_with(folders, name)[0]}={name}" if is_choice else None
    in_group = _likely(choices(meant, folders), value) if value else []
    return f"{meant}={in_group[0]}" if len(in_group) == 1 else meant


def _keys(folders: Sequence[Path]) -> set[str]:
    """List the keys of all files with the nodes that they are in, such as "optimizer.lr", and the groups."""
    found = {group for group in groups(folders) if not group.startswith("hydra")}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            found |= _keys_of(path, path.parent.relative_to(folder).as_posix())
    return {key for key in found if key.split(".")[0] != "hydra"}


def _keys_of(path: Path, group: str) -> set[str]:
    """List the keys of a file; its package is that of its header, else its group."""
    if group.split("/")[0] in ("experiment", "hydra", "accelerator", "recipe", "debug"):
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
