"""`action=embed run=<run>`: the codes of a task's images, how good they are for other tasks, and a map of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recon.actions.base import Action
from recon.ranges import require_whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from recon.codes.measured import Found
    from recon.codes.of_run import Coded
    from recon.data.datamodule import DataModule

_MAPPED = 2000  # test images of the map
_SHOWN = 8  # test images with their neighbours


@dataclass
class Embed(Action):
    """Make and measure codes; what its keys mean stands in `conf/action/embed.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = (
        "task", "data", "degradation", "trainer", "accelerator", "logger", "allow_network",
    )  # fmt: skip

    run: str | int | None
    output: str
    measure: bool
    k: int

    def __post_init__(self) -> None:
        require_whole("k", self.k, 1, 10_000)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Make the codes, measure them beside pixels and principal components, and write all into a folder."""
        from recon.codes.measured import require_classes
        from recon.codes.of_run import coded, with_images
        from recon.dashboards.threaded import log_after
        from recon.data.find import expanded
        from recon.runs.files import write_arrays, write_csv, write_image

        module, data = with_images(config)
        train = coded(module, data.training_images(), "training images", self.measure)
        test = coded(module, data.test_dataloader(), "test images", self.measure)
        target = expanded(self.output)
        if self.measure:
            require_classes(train.label, test.label, self.k)
        write_arrays(target / "codes.npz", {
            f"{split}_{name}": getattr(each, name).numpy()
            for split, each in (("train", train), ("test", test)) for name in ("codes", "label", "index")
        })  # fmt: skip
        pictures = {"map": self._map(test, module.class_names, target, Path(str(config["run"])), data)}
        if data.training_images().is_indexed:  # shards are read once
            pictures["neighbours"] = _neighbours(train, test, data, min(self.k, 10, len(train.index)))
        for name, picture in pictures.items():
            write_image(target / f"{name}.png", picture)
        if self.measure:
            found = _compared(train, test, self.k)
            write_csv(target / "measures.csv", _rows(found, self.k))
            _print(found, self.k)
        print(f"embed: codes of {len(train.index):,} training and {len(test.index):,} test images, "
              f"{train.codes.shape[1]} numbers each: {target}", flush=True)  # fmt: skip
        log_after(config["logger"], Path(str(config["run"])),
                  {f"code_{name}": picture for name, picture in pictures.items()})  # fmt: skip

    @staticmethod
    def _map(test: Coded, names: tuple[str, ...], target: Path, run: Path, data: DataModule) -> Image:
        """Draw the map; write the codes of the test images with their places in it, and what the report needs of it."""
        from recon import keyed
        from recon.codes.maps import flat, picture
        from recon.codes.of_run import small
        from recon.runs.files import write_arrays, write_csv

        some = keyed.permutation(0, "mapped", 0, len(test.index))[:_MAPPED].sort().values
        places = flat(test.codes[some].numpy())
        loader: Any = data.test_dataloader()
        if loader.is_indexed:
            shown = {"index": test.index[some].numpy(), "label": test.label[some].numpy()}
            planes = {name: each.astype("float32") for name, each in places.items()}
            write_arrays(run / "map.npz", {**shown, "image": small(test.index[some], loader), **planes})
        rows = [
            {"index": int(test.index[row]), "label": int(test.label[row]),
             **{f"code_{number}": f"{value:.6g}" for number, value in enumerate(test.codes[row].tolist())}}
            for row in range(len(test.index))
        ]  # fmt: skip
        for place, row in enumerate(some.tolist()):
            for name, points in places.items():
                word = name.lower().replace("-", "")
                rows[row] |= {f"{word}_{axis}": f"{points[place, number]:.6g}" for number, axis in enumerate("xy")}
        write_csv(target / "codes.csv", rows)
        return picture(places, test.label[some].numpy(), names)


def _compared(train: Coded, test: Coded, k: int) -> dict[str, dict[str, Found]]:
    """Measure codes, raw pixels and as many principal components of these, by the name of each."""
    from sklearn.decomposition import PCA

    from recon.codes.measured import Labelled, measured
    from recon.console import tracked

    size = min(train.codes.shape[1], *train.pixels.shape)
    fitted = PCA(size, svd_solver="randomized", random_state=0).fit(train.pixels.numpy())

    def components(pixels: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(fitted.transform(pixels.numpy())).float()

    kinds = {
        f"code ({train.codes.shape[1]})": (train.codes, test.codes),
        f"pixels ({train.pixels.shape[1]})": (train.pixels, test.pixels),
        f"PCA ({size})": (components(train.pixels), components(test.pixels)),
    }
    found = {}
    for name in tracked(list(kinds), "measure"):
        # What has no label can be neither found nor recognised.
        known = [
            Labelled(each[split.label >= 0], split.label[split.label >= 0])
            for each, split in zip(kinds[name], (train, test), strict=True)
        ]
        found[name] = measured(known[0], known[1], k)
    return found


def _rows(found: dict[str, dict[str, Found]], k: int) -> list[dict[str, Any]]:
    from recon.codes.measured import MEASURES

    return [
        {"vectors": name, "measure": measure, **each._asdict(), "k": k, "convention": MEASURES[measure]}
        for name, measures in found.items()
        for measure, each in measures.items()
    ]


def _print(found: dict[str, dict[str, Found]], k: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("[95 % interval]", *found)
    for measure in next(iter(found.values())):
        label = {"precision": f"precision@{k}", "map": "mAP"}.get(measure, measure.replace("_", " "))
        cells = (found[name][measure] for name in found)
        table.add_row(label, *(f"{each.value:.4f}\n[{each.low:.4f}, {each.high:.4f}]" for each in cells))
    Console().print(table)


def _neighbours(train: Coded, test: Coded, data: DataModule, count: int) -> Image:
    """Draw some test images, each with the training images whose codes are nearest."""
    from recon import keyed
    from recon.codes.of_run import drawn
    from recon.codes.retrieval import nearest

    some = keyed.permutation(0, "shown", 0, len(test.index))[:_SHOWN].sort().values
    places = nearest(train.codes, test.codes[some], count)[1]
    loader: Any = data.test_dataloader()
    return drawn(loader.look_at(test.index[some]).pair.degraded, test.index[some], train.index[places], data)
