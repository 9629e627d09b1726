"""Composing the configurations of a sweep outside `hydra.main`, from the same files as its command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.config.conf import CONF, folders_of
from recon.config.depending import register
from recon.config.resolved import resolved


def config_flags(arguments: Sequence[str]) -> list[str]:
    """Return the flags of a command line that say where Hydra finds its configuration, as each job needs them."""
    from hydra._internal.utils import get_args_parser

    typed = get_args_parser().parse_args(list(arguments))
    values = {"--config-dir": typed.config_dir, "--config-name": typed.config_name, "--config-path": typed.config_path}
    return [word for flag, value in values.items() if value is not None for word in (flag, str(value))]


class Composer:
    """Composes configurations as Hydra does for a command line.

    Args:
        flags: the `--config-…` flags of that command line.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        from hydra import version
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
        from hydra.core.config_search_path import SearchPathQuery
        from hydra.core.utils import setup_globals

        typed = get_args_parser().parse_args(list(flags))
        self._folders = folders_of(flags)
        register()
        version.setbase("1.3")
        setup_globals()
        # Hydra takes a relative --config-path from the folder of run.py.
        path = create_automatic_config_search_path(str(CONF.parent / "run.py"), None, typed.config_path or str(CONF))
        if typed.config_dir:
            path.prepend("command-line", f"file://{Path(typed.config_dir).absolute()}", SearchPathQuery("schema"))
        self._loader = ConfigLoaderImpl(path)
        self._name: str = typed.config_name or "config"

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the resolved configuration under overrides, without Hydra's own node."""
        from hydra.types import RunMode
        from omegaconf import open_dict

        config = self._loader.load_configuration(self._name, list(overrides), RunMode.RUN, from_shell=False)
        with open_dict(config):
            del config["hydra"]
        return resolved(config, self._folders)

    def has_group(self, key: str, overrides: Sequence[str] = ()) -> bool:
        """Return whether a key such as `model/net` chooses a configuration group."""
        return bool(self._loader.get_group_options(key, overrides=list(overrides)))
