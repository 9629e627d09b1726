"""Reuse the configuration of an existing run, with overrides from the command line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.config.conf import choices, folders_of, read_choice
from recon.config.resolved import with_numbers
from recon.config.words import key_of, quoted
from recon.errors import InputError
from recon.runs import RunFolder, action_of
from recon.runs.older import read_recorded
from recon.runs.reading import Unreadable

# Groups whose choice on the command line replaces that of an evaluated run.
_REPLACEABLE = ("task", "degradation", "protocol")
# The nodes of a configuration that belong to the trained model; the rest belongs to this machine and command.
_OF_THE_RUN = (
    "seed", "early_stopping", "curriculum", "task", "degradation", "protocol", "augment", "optimizer", "scheduler",
    "model", "trainer",
)  # fmt: skip
# The nodes that every recorded configuration has.
_NODES = ("accelerator", "augment", "checkpoint", "data", "degradation", "logger", "model", "optimizer", "scheduler",
          "sweep", "task", "trainer")  # fmt: skip
# The keys that name a run beside `run` and `resume`.
OF_A_RUN = ("init_from", "model.judge", "model.teacher", "model.loss.features")


def with_words_of_the_run(arguments: list[str]) -> list[str]:
    """Add the group choices of the run that `run=` or `resume=` names, so that Hydra composes its keys.

    With the group choices of that run Hydra composes a configuration in which the run's own keys exist, so that
    `degradation.sigma=0.3` can be said of a run without repeating `degradation=noise`. A resumed run stays in its own
    folder, and actions that only read need no folder.

    Raises:
        InputError: `resume` or `run` names no run folder.
    """
    folders = folders_of(arguments)
    arguments = [_with_whole_path(word) for word in arguments]
    given = {found[1]: word for word in arguments if (found := re.match(r"\+{0,2}([\w./]+)=", word))}
    index = next((n for n, word in enumerate(arguments) if re.match(r"\+{0,2}(run|resume|action)=", word)), 0)
    if "resume" in given:
        for key in {"hydra.run.dir", "debug"} & given.keys():
            raise InputError(f"{key}: a run is resumed in its own folder and as it began; leave out {given[key]}")
        if (folder := _run_folder("resume", given["resume"])) is None:
            return arguments
        arguments = [word if word != given["resume"] else f"resume={quoted(str(folder))}" for word in arguments]
        words = [*_choices(folder, given, folders), f"hydra.run.dir={quoted(str(folder))}"]
    elif "run" in given and "run" in (read_choice("action", _value(given.get("action", "")) or "train", folders) or {}):
        if (folder := _run_folder("run", given["run"])) is None:
            return arguments
        arguments = [_existing(word, folder, given, folders) for word in arguments]
        arguments = [word if word != given["run"] else f"run={quoted(str(folder))}" for word in arguments]
        words = _choices(folder, given, folders)
    else:
        return arguments
    # Beside the other overrides: Hydra takes none from the other side of a flag such as -m.
    return [*arguments[:index], *words, *arguments[index:]]


def _with_whole_path(word: str) -> str:
    """Write the run that such a key as `init_from=` names by its path, as a run's record must."""
    key, _, value = word.partition("=")
    if key not in OF_A_RUN or value in ("", "null", "''", "auto") or Path(value).exists():
        return word
    folder = _run_folder(key, word)
    return word if folder is None else f"{key}={quoted(str(folder))}"


def _run_folder(key: str, word: str) -> Path | None:
    """Read the folder that `key=…` names, as Hydra reads the value; None where it names several.

    It is a path, or what `choose` takes.

    Raises:
        InputError: it names none, or one that is not there.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from recon.report.choose import choose  # it imports numpy

    override = OverridesParser.create().parse_override(word)
    if override.is_sweep_override():
        return None
    value = override.value()
    if not isinstance(value, str | int | float) or not str(value).strip(" '\""):
        raise InputError(f"{key}: it names no folder; give {key}=outputs/<day>/<run>")
    # Quotes that reached Hydra as part of the value are no part of a path.
    texts = dict.fromkeys([str(value), str(value).strip("\"'")])
    forms = [unicodedata.normalize(form, text) for text in texts for form in ("NFC", "NFD")]
    paths = [Path(text).expanduser() for text in dict.fromkeys([*texts, *forms])]
    paths = [path.parent.parent if path.suffix == ".ckpt" else path for path in paths]
    path = next((path for path in paths if path.is_dir()), None)
    return (path or choose(key, str(value))).absolute()


def _existing(word: str, folder: Path, given: Mapping[str, str], folders: Sequence[Path]) -> str:
    """Let Hydra take a key of a choice of the run that is in none of these folders, such as a user's own net."""
    node = word.partition("=")[0].rpartition(".")[0]
    choice = RunFolder(folder).environment.get("choices", {}).get(group := node.replace(".", "/"))
    return f"++{word}" if choice and group not in given and choice not in choices(group, folders) else word


def choices_of_run(folder: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices of groups with which a run is evaluated: its own, but for those of the command line.

    Args:
        folder: the run folder.
        about: the "overrides" of the command line, and the "choices" that Hydra composed.
    """
    typed = {key_of(word) for word in about["overrides"]}
    recorded = RunFolder(folder).environment.get("choices", {})
    # They come from an untrusted folder, and are printed.
    own = {group: choice for group, choice in recorded.items() if _is_plain(choice) and group not in typed}
    return {group: own.get(group, choice) for group, choice in about["choices"].items()}


def _is_plain(choice: str) -> bool:
    return bool(re.fullmatch(r"\w+", choice, re.ASCII))


def _choices(folder: Path, given: Mapping[str, str], folders: Sequence[Path]) -> list[str]:
    """Return the run's own choices of groups, as far as this configuration has them and none is given."""
    recorded = RunFolder(folder).environment.get("choices", {})
    groups = (
        "task", "degradation", "protocol", "augment", "optimizer", "scheduler", "model", "model/net", "model/loss",
        "model/quantiser",
    )  # fmt: skip
    # Choices come from an untrusted folder: pass plain words only.
    return [
        f"{group}={choice}"
        for group in groups
        if group not in given
        and (choice := recorded.get(group))
        and _is_plain(choice)
        and choice in choices(group, folders)
    ]


def _value(word: str) -> str:
    return word.partition("=")[2]


def read_config(folder: Path, key: str = "run") -> dict[str, Any]:
    """Read the configuration of a run folder, which may be a stranger's: plain values, which nothing resolves again.

    Args:
        folder: the run folder.
        key: the key of the command line that names it, for messages.

    Raises:
        InputError: there is none, it is damaged, or it asks for something to be filled in, such as a variable of the
            environment.
    """
    path = folder / "config.yaml"
    try:
        config = read_recorded(path)
    except OSError as error:
        raise InputError(
            f"{key}: {folder} is no run folder, as it holds no readable config.yaml; give one below outputs/"
        ) from error
    except Unreadable as error:
        raise InputError(f"{key}: {path} is no configuration, as {error}; choose another run folder") from error
    if (asked := next((text for text in _texts(config) if "${" in text), None)) is not None:
        raise InputError(f"{key}: {path} asks for {asked[:80]}, which recon never records; choose another run folder")
    lacking = [name for name in _NODES if not isinstance(config.get(name), dict)]
    if lacking:
        raise InputError(f"{key}: {path} lacks the settings of {lacking[0]}; choose another run folder")
    return config


def _texts(value: Any) -> Iterator[str]:
    """Yield every key and text of nested plain values."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def ask_about_network(recorded: Mapping[str, Any], overrides: Sequence[str], is_allowed: bool, key: str) -> None:
    """Raise InputError where the data of a recorded run come from the network and this is not allowed.

    Args:
        recorded: the configuration of the run.
        overrides: those of the command line; what they replace is not looked at.
        is_allowed: `allow_network` of the command line.
        key: the key of the command line that names the run.
    """
    typed = {override.split("=", 1)[0].lstrip("+") for override in overrides}
    if is_allowed or "task" in typed:
        return
    for name, value in recorded["task"].items():
        # Any scheme counts, also one that braces would assemble; `::` only joins shards.
        address = next((text for text in _texts(value) if ":" in text.replace("::", " ")), None)
        if address is not None and f"task.{name}" not in typed and name != "_target_":
            raise InputError(
                f"{key}: the data of this run are read from {address[:120]}; add allow_network=true if you trust this "
                f"address, or give data of your own by task.{name}="
            )


def of_run(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Take the configuration of the run that `run=` names, with what the command line says otherwise.

    A group that was chosen anew (`degradation=noise`) replaces the run's whole, a single key
    (`degradation.sigma=0.3`) only itself. What concerns this machine, not the model, is never taken from the run.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    if not config["run"]:
        raise InputError(f"run: action={action_of(config)} needs a run folder; add run=outputs/<day>/<run>")
    recorded = read_config(Path(config["run"]))
    ask_about_network(recorded, overrides, config["allow_network"], "run")
    here = {key: value for key, value in config.items() if key not in _OF_THE_RUN}
    of_the_run = {key: value for key, value in recorded.items() if key in _OF_THE_RUN}
    merged: Any = OmegaConf.create({**of_the_run, **here, "trainer": config["trainer"]})
    merged.trainer.precision = recorded["trainer"].get("precision", merged.trainer.precision)
    parsed = OverridesParser.create().parse_overrides(overrides)
    for override in parsed:
        if override.key_or_group in _REPLACEABLE:
            merged[override.key_or_group] = config[override.key_or_group]
        if override.key_or_group == "model/net":  # of actions that train a net anew
            merged.model.net = config["model"]["net"]
    for override in parsed:
        if "." in override.key_or_group and not override.is_delete():
            OmegaConf.update(merged, override.key_or_group, override.value(), force_add=True)
    taken: Any = OmegaConf.to_container(merged)
    # What is typed comes as text: "25/255" is recorded as the number that it is, as a training's is.
    taken["degradation"] = with_numbers(taken["degradation"])
    return {str(key): value for key, value in taken.items()}
