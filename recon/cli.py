"""The command line: compose a configuration, then carry out one action, or a sweep of them.

torch and lightning are imported only when work begins, so that help, `--cfg job` and tab completion answer at once.
"""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from recon import __version__
from recon.actions.act import act, remove_empty
from recon.config import completion
from recon.config.conf import CONF, folders_of, program
from recon.config.depending import register
from recon.config.help import help_text
from recon.config.mistyped import check_flags, hydra_sentence
from recon.config.recorded import with_words_of_the_run
from recon.config.resolved import with_numbers
from recon.config.words import of_each_run, readable
from recon.errors import InputError, Interrupted
from recon.streams import make_lasting, printable
from recon.sweep.job import Collected, collect, in_process_folder
from recon.sweep.state import folder_for, tidy

# The command line as it was typed, which Lightning repeats for the other processes of a multi-device run.
_typed: list[str] = sys.argv
_words: list[str] = []  # what Hydra composes: `_typed` with the choices of the run that is evaluated or resumed
_collected: Collected | None = None  # what Hydra composed for a sweep
_NOTHING_SAVED = "interrupted; nothing was saved yet"
# What starts the processes of a sweep, wherever they run.
PROGRAM = str(Path(__file__).absolute().with_name("__main__.py"))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def compose_and_act(config: DictConfig) -> None:
    """Do what the configuration says; in a multirun, once for each job."""
    global _collected
    sys.argv = _typed
    try:
        if (collected := collect(_collected, config, HydraConfig.get(), _words)) is not None:
            if _collected is None:  # the first: the server's imports take as long as composing the others
                from recon.sweep.process import start_server

                start_server()
            _collected = collected
            return
        act(config)
    except InputError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            tidy(Path(HydraConfig.get().sweep.dir))
        elif _collected is None:
            remove_empty(Path(HydraConfig.get().runtime.output_dir))
        # Hydra would name the job and print a traceback; SystemExit passes.
        raise SystemExit(_complain(str(error), 2)) from None


def main() -> int:
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 a mistake in what was asked for."""
    global _typed, _words, _collected
    folders = folders_of(sys.argv[1:])
    _typed, _collected = [sys.argv[0], *readable(sys.argv[1:], folders)], None
    make_lasting()
    os.environ.setdefault("RECON_COMMAND", program())  # of the jobs of a sweep too
    if (answer := _answer(sys.argv[1:], folders)) is not None:
        print(answer)
        return 0
    if completion.is_asked(sys.argv[1:]):
        _typed[1:] = completion.with_own_folder(_typed[1:])
    register()
    # A run folder is named by what it is for.
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    sweep_folder = cache(lambda: folder_for(_typed[1:]))
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)
    OmegaConf.register_new_resolver("job_folder", in_process_folder, replace=True)
    # On a busy machine GNU OpenMP's threads wait for each other in long loops that take each other's turn: an epoch of
    # a small net took 21 s for 0.5 s. With short loops it takes 2.5 s, and still 0.5 s on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # Lets Hydra raise its errors, so that they are printed as one sentence like all others.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        check_flags(_typed[1:], folders)
        for words in of_each_run(_typed[1:], folders):
            _words = with_words_of_the_run(words)
            sys.argv = [_typed[0], *_words]
            GlobalHydra.instance().clear()
            compose_and_act()
        if _collected is not None:
            from recon.sweep import run_sweep

            return run_sweep(_collected, PROGRAM, _typed[1:])
    except InputError as error:
        return _complain(str(error), 2)
    except Interrupted as interruption:
        # Lightning ends the first process when another one of the same run ends with anything but 0.
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        sentence = "interrupted; the checkpoints so far are kept" if interruption.saved else _NOTHING_SAVED
        return _complain(sentence, 128 + interruption.number) if first else 0
    except KeyboardInterrupt:
        return _complain(_NOTHING_SAVED, 130)
    except Exception as error:
        if (mistake := hydra_sentence(error, folders)) is not None:
            if sweep_folder.cache_info().currsize:
                tidy(Path(sweep_folder()))
            return _complain(mistake, 2)
        if isinstance(error, OSError) and _is_from_hydra(error):
            return _complain(f"hydra.run.dir: {error.filename}: {error.strerror}; choose a folder to write to", 2)
        traceback.print_exc()
        return 1
    return 0


def _answer(arguments: Sequence[str], folders: Sequence[Path]) -> str | None:
    """Answer what needs no composing: help, the version, the runs that complete a word; None for anything else."""
    if {"--help", "-h"} & set(arguments):
        return help_text(folders, arguments).removesuffix("\n")
    if "--version" in arguments:
        return f"recon {__version__}"
    names = completion.run_names() if completion.is_asked(arguments) else None
    return None if names is None else " ".join(names)


def _is_from_hydra(error: BaseException) -> bool:
    """Return whether Hydra met an error when it made the run folder, before an action began."""
    files = [Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)]
    return any("hydra" in parts for parts in files) and not any(parts[-2] == "actions" for parts in files)


def _run_name(choices: Mapping[str, Any], degradation: Mapping[str, Any] | None, method: Any = None) -> str:
    """Name a run by model, net or method, damage with its first level, images: "restoration_unet_noise0.1_mnist"."""
    values = with_numbers(dict(degradation or {})).values()
    levels = (list(value) if isinstance(value, list | ListConfig) else [value] for value in values)
    numbers = [level for level in levels if level and all(type(number) in (int, float) for number in level)]
    damage = choices["degradation"] + "-".join(f"{number:.3g}" for number in (numbers or [[]])[0][:2])
    words = [
        "" if choices["action"] == "train" else choices["action"], choices["model"], choices.get("model/net") or method,
        "" if choices["degradation"] == "none" else damage, choices["task"],
    ]  # fmt: skip
    return "_".join(str(word) for word in words if word)


def _complain(sentence: str, status: int) -> int:
    """Say what is wrong, in the first process alone."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {printable(sentence)}", file=sys.stderr, flush=True)
    return status
