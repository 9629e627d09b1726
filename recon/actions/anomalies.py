"""`action=anomalies run=<run>`: how well a model that was trained on normal images tells others apart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recon.actions.base import Action
from recon.ranges import require_whole

if TYPE_CHECKING:
    from torch import Tensor

    from recon.codes.measured import Found
    from recon.data.datamodule import DataModule
    from recon.modules.base import Module

_SHOWN = 4  # images of each kind in the picture


@dataclass
class Anomalies(Action):
    """Score test images and measure the scores; what its keys mean stands in `conf/action/anomalies.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = (
        "task", "data", "degradation", "trainer", "accelerator", "logger", "allow_network",
    )  # fmt: skip

    run: str | int | None
    output: str
    k: int

    def __post_init__(self) -> None:
        require_whole("k", self.k, 1, 10_000)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Score, measure, draw, and write all into a folder."""
        from recon.codes.anomalies import (
            histograms,
            require_both,
            scores_of_codes,
            scores_of_images,
            scores_of_pixels,
            usual_error,
        )
        from recon.codes.of_run import coded, small, with_images
        from recon.dashboards.threaded import keep_after
        from recon.data.find import expanded
        from recon.runs.files import write_columns, write_csv, write_image

        module, data = with_images(config)
        tested, training = data.test_dataloader(), data.training_images()
        test = coded(module, tested, "test images")
        anomalous = require_both(test.label, data.task.normal_classes)
        train = coded(module, training, "training images")
        usual = usual_error(module, data.val_dataloader())
        scores = {**scores_of_images(module, tested, usual), **scores_of_codes(train, test, self.k)}
        if training.is_indexed:
            scores |= scores_of_pixels(small(train.index, training), small(test.index, tested), self.k)
        target = expanded(self.output)
        columns = {"index": test.index, "label": test.label, "anomalous": anomalous.long(), **scores}
        write_columns(target / "scores.csv", columns)
        found = _measured(scores, anomalous, test.label)
        rows, run = _rows(found, module.class_names, self.k), Path(str(config["run"]))
        write_csv(target / "measures.csv", rows)
        if os.access(run, os.W_OK):  # for the report
            write_csv(run / "anomalies.csv", rows)
        arrays = {name: score.numpy() for name, score in scores.items()}
        pictures = {"histograms": histograms(arrays, anomalous.numpy())}
        if training.is_indexed:
            pictures["where"] = _where(module, data, scores["reconstruction"], anomalous, test.index)
        for name, picture in pictures.items():
            write_image(target / f"{name}.png", picture)
        _print(found)
        print(f"anomalies: {int(anomalous.sum()):,} of {len(test.index):,} test images are anomalous; "
              f"{len(train.index):,} training images are normal: {target}", flush=True)  # fmt: skip
        keep_after(config["logger"], run, {f"anomaly_{name}": picture for name, picture in pictures.items()})


def _measured(
    scores: Mapping[str, Tensor], anomalous: Tensor, label: Tensor
) -> dict[tuple[str, int | None], dict[str, Found]]:
    """Measure each score, by all anomalous images (None) and by those of each class alone."""
    from recon.codes.anomalies import measured
    from recon.console import tracked

    kinds: list[int | None] = [None, *label[anomalous].unique().tolist()]
    cases = [(name, kind) for name in scores for kind in (kinds if len(kinds) > 2 else kinds[:1])]
    found = {}
    for name, kind in tracked(cases, "measure"):
        some = ~anomalous | (anomalous if kind is None else label == kind)
        found[name, kind] = measured(scores[name][some].numpy(), anomalous[some].numpy())
    return found


def _rows(
    found: Mapping[tuple[str, int | None], dict[str, Found]], names: tuple[str, ...], k: int
) -> list[dict[str, Any]]:
    from recon.codes.anomalies import SCORES

    def against(kind: int | None) -> str:
        if kind is None:
            return "all"
        return names[kind] if 0 <= kind < len(names) else str(kind)

    return [
        {"score": name, "against": against(kind), "measure": measure, **each._asdict(), "k": k,
         "convention": SCORES[name]}
        for (name, kind), measures in found.items()
        for measure, each in measures.items()
    ]  # fmt: skip


def _print(found: Mapping[tuple[str, int | None], dict[str, Found]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("score", "AUC [95 % interval]", "average precision")
    for (name, kind), measures in found.items():
        if kind is None:
            cells = (f"{each.value:.4f} [{each.low:.4f}, {each.high:.4f}]" for each in measures.values())
            table.add_row(name, *cells)
    Console().print(table)


def _where(module: Module, data: DataModule, score: Tensor, anomalous: Tensor, index: Tensor) -> Any:
    """Draw images with what is made of them and the error: the farthest and nearest of both kinds."""
    import numpy as np
    import torch

    from recon.codes.anomalies import unlabelled
    from recon.runs import draw

    rows, titles = [], []
    for kind, word in ((True, "anomalous"), (False, "normal")):
        of_kind = (anomalous == kind).nonzero().squeeze(1)
        order = of_kind[score[of_kind].argsort(descending=True)]
        shown = min(_SHOWN, len(order))
        rows.append(torch.cat([order[:shown], order[len(order) - shown :]]))
        titles += [f"{word}, the {end}: {score[row]:.2e}" for end, part in (("farthest", order[:shown]),
                   ("nearest", order[len(order) - shown :])) for row in part.tolist()]  # fmt: skip
    places = index[torch.cat(rows)]
    loader: Any = data.test_dataloader()
    pair = unlabelled(loader.look_at(places).pair, module)
    with torch.inference_mode():
        rebuilt = module.predict(pair)
    arrays = {"index": places.numpy(), "title": np.array(titles), "restored": draw.pixels(rebuilt)}
    return draw.grid({**arrays, "clean": draw.pixels(pair.clean)})
