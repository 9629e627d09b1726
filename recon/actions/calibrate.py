"""`action=calibrate run=<run>`: let a classifier's confidence be its accuracy, by one temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recon.actions.base import Action
from recon.errors import InputError
from recon.ranges import require_number


@dataclass
class Calibrate(Action):
    """Fit a temperature on the validation images; what its keys mean stands in `conf/action/calibrate.yaml`."""

    needs_run: ClassVar[bool] = True
    leaves_a_record: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("task", "data", "degradation", "trainer", "accelerator", "allow_network")

    run: str | int | None
    temperature: float | None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            from recon.runs.calibrated import LEAST, MOST

            require_number("temperature", self.temperature, LEAST, MOST)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Fit, write `temperature.json` into the run folder, and say what changed."""
        import torch

        from recon import build
        from recon.measures import measure
        from recon.metrics.classes import calibration_error, temperature
        from recon.pair import Pair
        from recon.runs import calibrated

        module, run = build.ready(config), Path(config["run"])
        if module.kind != "recognise":
            raise InputError(f"run: {run} is of a model that recognises nothing; choose a run of model=classifier")
        if self.temperature is not None:
            print(f"calibrate: temperature {self.temperature:g}; {calibrated.write(run, float(self.temperature))}")
            return
        module.temperature = 1.0  # not that of an earlier calibration
        task = build.task(config)
        data = build.data(config, task, build.degradation(config, task), module)
        logits, labels = [], []
        with torch.inference_mode():
            for pair in data.val_dataloader():
                known = pair.label >= 0
                pair = Pair(*(field[known].to(module.device) for field in pair))
                logits.append(module.predict(pair).double().cpu())
                labels.append(pair.label.cpu())
        scores, truth = torch.cat(logits), torch.cat(labels)
        if len(truth) < 2 or not scores.isfinite().all():
            raise InputError(f"run: the scores of {run} on the validation images are too few or not finite; train on")
        found = temperature(scores, truth)
        figures: dict[str, float] = {"images": len(truth)}
        for name, values in (("before", scores), ("after", scores / found)):
            confidence, prediction = values.softmax(1).max(1)
            figures[f"nll_{name}"] = float(torch.nn.functional.cross_entropy(values, truth))
            figures[f"ece_{name}"] = calibration_error(confidence, prediction == truth)
        path = calibrated.write(run, found, **figures)
        row = measure("ece")
        print(f"calibrate: temperature {found:.3f}, fitted on {len(truth):,} validation images: log-loss "
              f"{figures['nll_before']:.4f} before and {figures['nll_after']:.4f} after, {row.label} "
              f"{row.text(figures['ece_before'])} and {row.text(figures['ece_after'], unit=True)}; {path}; "
              f"temperature=1 undoes it", flush=True)  # fmt: skip
