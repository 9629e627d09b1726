"""Choices of groups that depend on other choices, as the defaults lists of `conf/` write them."""

from __future__ import annotations

from collections.abc import Mapping


def register() -> None:
    """Let defaults lists say `${choice_for:${task},{mnist:lenet},cnn}`: what stands for that task, else the last."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("choice_for", choice_for, replace=True)


def choice_for(chosen: str, choices: Mapping[str, str], other: str) -> str:
    """Return what belongs to a choice of another group.

    >>> choice_for("mnist", {"mnist": "lenet"}, "cnn"), choice_for("digits", {"mnist": "lenet"}, "cnn")
    ('lenet', 'cnn')
    """
    return choices.get(chosen, other)
