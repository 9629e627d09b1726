"""`action=search run=<run> query=<image>`: the training images whose codes are nearest to that of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_whole


@dataclass
class Search(Action):
    """Find training images like an image; what its keys mean stands in `conf/action/search.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("task", "data", "degradation", "trainer", "accelerator", "allow_network")

    run: str | int | None
    query: str | None
    k: int
    output: str

    def __post_init__(self) -> None:
        require_whole("k", self.k, 1, 100)
        if not self.query:
            raise InputError("query: nothing is given; add query=<image>")
        if Path(self.output).suffix.lower() != ".png":
            raise InputError(f"output: the picture is written as .png, not {Path(self.output).suffix or self.output}")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Find them, write the picture, and list them."""
        import torch

        from recon.codes.of_run import code_of, coded, drawn, with_images
        from recon.codes.retrieval import nearest
        from recon.data.find import expanded
        from recon.projection import image_for
        from recon.runs.files import write_image
        from recon.streams import printable

        module, data = with_images(config)
        image = image_for(module, expanded(str(self.query)), "search")
        loader = data.training_images()
        if not loader.is_indexed:
            raise InputError("task: images of shards cannot be looked up again to be shown; choose another task")
        train = coded(module, loader, "training images")
        if self.k > len(train.index):
            raise InputError(f"k: {self.k} are more than there are training images ({len(train.index):,}); give fewer")
        distances, places = nearest(train.codes, code_of(module, image.to(module.device)), self.k)
        target = expanded(self.output)
        write_image(target, drawn(image, torch.zeros(1, dtype=torch.int64), train.index[places], data))
        names = data.load().train.names
        for distance, place in zip(distances[0].tolist(), places[0].tolist(), strict=True):
            index, label = int(train.index[place]), int(train.label[place])
            named = module.class_names[label] if 0 <= label < len(module.class_names) else str(label)
            words = [f"training image {index}", *([f"class {named}"] if label >= 0 else []), f"distance {distance:.4g}"]
            print(printable(", ".join(words + ([] if names is None else [str(names[index])]))))
        print(f"search: {target}", flush=True)
