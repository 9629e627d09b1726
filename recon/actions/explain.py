"""`action=explain run=<run> method=integrated_gradients`: which pixels a model used, and is that true?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_whole

if TYPE_CHECKING:
    from PIL.Image import Image

    from recon.modules.base import Module
    from recon.pair import Pair


@dataclass
class Explain(Action):
    """Draw a sheet, and write the figures of the checks; what its keys mean stands in `conf/action/explain.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = (
        "task", "data", "degradation", "trainer", "accelerator", "logger", "allow_network",
    )  # fmt: skip

    run: str | int | None
    method: Literal[
        "all", "saliency", "smoothgrad", "integrated_gradients", "grad_cam", "occlusion", "filters", "features",
        "activation_maximisation", "receptive_field",
    ]  # fmt: skip
    images: int
    checked: int
    layer: str | None
    output: str | None

    def __post_init__(self) -> None:
        require_whole("images", self.images, 1, 64)
        require_whole("checked", self.checked, self.images, 4096)
        if self.layer is not None and self.method not in ("all", "grad_cam", "features"):
            raise InputError(f"layer: method={self.method} looks at no layer; leave it out, or choose method=grad_cam "
                             "or features")  # fmt: skip

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Explain, write and say where."""
        from recon.build import ready
        from recon.dashboards.threaded import log_after
        from recon.explain.explained import METHODS
        from recon.generated import sheet
        from recon.runs.files import write_image

        module, run = ready(config), Path(config["run"])
        target = Path(self.output).expanduser() if self.output else run / f"explain_{self.method}"
        target = target.with_suffix(".png")
        classifies, restores = module.kind == "recognise", module.kind == "restore" and module.trains
        if self.method in ("all", *METHODS, "activation_maximisation") and not classifies:
            raise InputError(f"method: {self.method} explains the classes of a classifier; for this run choose "
                             "method=receptive_field, filters or features")  # fmt: skip
        if self.method == "receptive_field" and not restores:
            raise InputError("method: receptive_field is of models that restore; choose method=all for a classifier")
        if self.method == "filters":
            from recon.explain.looks import filters

            picture = sheet(filters(module.active_net).repeat_interleave(8, 2).repeat_interleave(8, 3))
        elif self.method == "activation_maximisation":
            picture = _activations(module)
        else:
            pair = self._pair(config, module)
            if self.method == "features":
                picture = self._features(module, pair)
            elif self.method == "receptive_field":
                picture = self._receptive_field(module, pair)
            else:
                picture = self._maps(module, pair, target)
        write_image(target, picture)
        print(f"explain: {target}", flush=True)
        log_after(config["logger"], run, {f"explain_{self.method}": picture})

    def _pair(self, config: dict[str, Any], module: Module) -> Pair:
        """Read the first test images, under the damage of the configuration."""
        from recon import build
        from recon.pair import Pair

        task = build.task(config)
        task.tested_only = True
        count = self.checked if self.method not in ("features", "receptive_field") else self.images
        task.batch_size = count
        data = build.data(config, task, build.degradation(config, task), module)
        pair = next(iter(data.test_dataloader()))
        return Pair(*(field[:count].to(module.device) for field in pair))

    def _maps(self, module: Module, pair: Pair, target: Path) -> Image:
        from rich.console import Console
        from rich.progress import Progress

        from recon.explain.explained import METHODS, Explainer, words
        from recon.runs.files import write_csv

        explainer = Explainer(module, pair, self.layer)
        methods: tuple[str, ...] = METHODS if self.method == "all" else (self.method,)
        if self.method == "all" and explainer.layer_name is None:
            methods = tuple(method for method in methods if method != "grad_cam")
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("explain", total=len(methods))
            found = explainer.explain(methods, lambda: progress.advance(bar))
        for each in found:
            print(words(each))
        write_csv(target.with_suffix(".csv"), [{"method": each.method, "images": len(pair.index), **each.figures}
                                               for each in found])  # fmt: skip
        return _sheet(module, pair, self.images, {each.method.replace("_", " "): each.maps for each in found})

    def _features(self, module: Module, pair: Pair) -> Image:
        from recon.explain.attribution import choose_layer, layers
        from recon.explain.looks import features
        from recon.generated import sheet

        one = type(pair)(*(field[:1] for field in pair))
        found = layers(module.active_net, one.degraded, lambda image: module.predict(one._replace(degraded=image)))
        name, _, maps = choose_layer(found, self.layer)
        print(f"explain: layer {name}, {'×'.join(map(str, maps.shape[1:]))}; others: {', '.join(found)}")
        return sheet(features(maps))

    def _receptive_field(self, module: Module, pair: Pair) -> Image:
        from recon.explain.looks import radius_of, used_by_a_pixel

        maps, at = used_by_a_pixel(module, pair)
        print(f"explain: 95 % of what a middle pixel depends on lies within {radius_of(maps, at):.1f} pixels of it "
              f"(mean over {len(maps)} images)")  # fmt: skip
        return _sheet(module, pair, self.images, {"used by the middle pixel": maps.sqrt()})


def _activations(module: Module) -> Image:
    import numpy as np

    from recon.explain.looks import activation_maximisation
    from recon.runs import draw

    made, confidence = activation_maximisation(module)
    names = [draw.class_name(number, module.class_names) for number in range(len(made))]
    cells = {"class": names, "confidence": [f"{100 * value:.1f} %" for value in confidence.tolist()]}
    return draw.grid({"index": np.arange(len(made)), "image": draw.pixels(made)}, draw.Words(cells=cells))


def _sheet(module: Module, pair: Pair, count: int, maps: Mapping[str, Any]) -> Image:
    """Draw images beside their maps, red where a pixel speaks for the class and blue where against it."""
    import numpy as np
    import torch

    from recon.runs import draw, tiles

    some = type(pair)(*(field[:count] for field in pair))
    with torch.no_grad():
        made = module.predict(some)
    seen_as = "degraded" if module.kind == "restore" else "image"
    columns: dict[str, Any] = {"index": some.index.cpu().numpy(), seen_as: draw.pixels(some.degraded)}
    words = draw.Words(note="Each map by its own largest values: red for, blue against, white neither.")
    if module.kind == "restore":
        columns["restored"] = draw.pixels(made)
        words = draw.Words(note="Square roots of absolute gradients, each image by its own largest.")
    else:
        confidence, seen = made.float().softmax(1).max(1)
        classes = [[draw.class_name(float(value), module.class_names) for value in each.tolist()]
                   for each in (some.label, seen)]  # fmt: skip
        cells = {"truth": classes[0], "prediction": classes[1],
                 "confidence": [f"{100 * value:.1f} %" for value in confidence.tolist()]}  # fmt: skip
        words.cells = cells
        words.wrong = [bool(a >= 0 and a != b) for a, b in zip(some.label.tolist(), seen.tolist(), strict=True)]
    for name, map_ in maps.items():
        shown = []
        for one in map_[:count].double().cpu().numpy():
            limit = max(float(np.quantile(np.abs(one), 0.995)), 1e-12)
            shown.append(tiles.coloured(one / limit))
        columns[name] = np.stack(shown)
    return draw.grid(columns, words)
