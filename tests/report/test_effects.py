"""What each parameter does, everything else being equal, in grids and in searches."""

import json
from pathlib import Path

import numpy as np
import pytest
from report_runs import copies, text_of

from recon.report.effects import marginal
from recon.report.gather import Run, problems
from recon.runs import RunFolder, find


def test_the_effect_of_a_parameter_counts_only_what_differs_in_nothing_else(made: Path, tmp_path: Path) -> None:
    list(copies(made / "sweep" / "unet-1", tmp_path / "u", seeds=2, rates=2, shift=lambda rate: 1.0 * rate))
    list(copies(made / "sweep" / "cvanet-1", tmp_path / "c", seeds=2, rates=3, shift=lambda rate: 1.0 * rate))
    runs = [Run(folder, folder.path.name) for folder in find(f"{tmp_path}/u,{tmp_path}/c")]
    (problem,) = problems(runs)
    assert set(problem.entries[0].values) == {"model/net", "optimizer.lr"}
    rates, groups = marginal(problem, "optimizer.lr")
    assert groups == 4, "two nets and two seeds; the rate of 0.003 was tried with one of the nets only"
    assert [value for value, _ in rates] == ["0.001", "0.002", "0.003"]
    # The nets differ by more than the rates: a rate must not gain by the net that it was tried with.
    assert np.diff([e.mean for _, e in rates]) == pytest.approx([1, 1], abs=0.1)
    assert all(e.low is not None for _, e in rates), "both seeds tried all rates"
    nets, groups = marginal(problem, "model/net")
    assert groups == 4
    psnr = {
        net: np.mean(
            [json.loads(path.read_text())["test/psnr"] for path in tmp_path.glob(f"{net}/rate-[01]*/metrics.json")]
        )
        for net in "uc"
    }
    assert {value: e.mean for value, e in nets} == pytest.approx({"unet": psnr["u"], "cvanet": psnr["c"]})


def test_a_search_tells_the_effect_of_what_differs_alone_somewhere(made: Path, tmp_path: Path) -> None:
    rates = list(copies(made / "sweep" / "unet-1", tmp_path / "u", seeds=1, rates=3, shift=lambda rate: 1.0 * rate))
    others = copies(made / "sweep" / "cvanet-1", tmp_path / "c", seeds=1, rates=6, shift=lambda rate: 1.0 * rate)
    runs = [Run(RunFolder(path), path.name) for path in [*rates, *list(others)[4:]]]
    (problem,) = problems(runs)
    told, groups = marginal(problem, "optimizer.lr")
    assert groups == 1
    assert [value for value, _ in told] == ["0.001", "0.002", "0.003"], "no chain leads to the rates of the other net"
    assert np.diff([e.mean for _, e in told]) == pytest.approx([1, 1], abs=0.1)
    assert marginal(problem, "model/net") == ([], 0)
    text = text_of([run.folder.path for run in runs], tmp_path)
    assert "over 1 group of runs that differ in lr alone. 2 more values cannot be compared so." in text
    assert "No runs differ in net alone, so its own effect is unknown." in text
