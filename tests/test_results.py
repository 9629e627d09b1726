"""The table of an evaluation: what counts as missing, what is not finite, and which images they were."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from conftest import Compose
from lightning.pytorch import Trainer
from torch import Tensor, multiprocessing

from recon import build
from recon.actions.train import train
from recon.measures import Measure, with_own
from recon.metrics import per_image
from recon.metrics.per_image import PerImage
from recon.modules.classification import ClassificationModule
from recon.runs.checkpoint import load_weights
from recon.sweep.process import start_server


class TestPerImage:
    def test_sorts_and_drops_repeats(self):
        table = PerImage()
        table.update(torch.tensor([5, 2]), {"psnr": torch.tensor([50.0, 20.0]), "severity": torch.tensor([0.5, 0.2])})
        table.update(torch.tensor([9, 5]), {"severity": torch.tensor([0.9, 0.5]), "psnr": torch.tensor([90.0, 50.0])})
        rows = table.compute()
        assert list(rows) == ["index", "psnr", "severity"]
        assert rows["index"].tolist() == [2, 5, 9]
        assert rows["psnr"].tolist() == [20, 50, 90]
        assert rows["severity"].tolist() == pytest.approx([0.2, 0.5, 0.9])
        assert rows["index"].dtype == torch.int64
        assert rows["psnr"].dtype == torch.float64

    def test_one_image_stays_a_column(self):
        table = PerImage()
        table.update(torch.tensor([3]), {"psnr": torch.tensor([30.0])})
        for _ in range(2):  # the second comes from the cache
            assert table.compute()["psnr"].shape == (1,)

    def test_reset_forgets_rows_and_names(self):
        table = PerImage()
        table.update(torch.tensor([3]), {"psnr": torch.tensor([30.0])})
        table.reset()
        table.update(torch.tensor([4]), {"ssim": torch.tensor([0.5])})
        rows = table.compute()
        assert rows["index"].tolist() == [4]
        assert rows["ssim"].tolist() == [0.5]
        assert "psnr" not in rows

    def test_keeps_large_indices(self):
        table = PerImage()
        table.update(torch.tensor([2**40 + 1]), {"psnr": torch.tensor([30.0])})
        assert table.compute()["index"].tolist() == [2**40 + 1]

    def test_refuses_other_columns(self):
        table = PerImage()
        table.update(torch.tensor([3]), {"psnr": torch.tensor([30.0])})
        with pytest.raises(ValueError, match="columns psnr, not ssim"):
            table.update(torch.tensor([4]), {"ssim": torch.tensor([0.5])})
        with pytest.raises(ValueError, match="like index"):
            table.update(torch.tensor([4]), {"psnr": torch.tensor([0.5, 0.6])})

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_no_image_at_all(self):
        rows = PerImage().compute()
        assert list(rows) == ["index"]
        assert rows["index"].shape == (0,)

    def test_ranks_share_one_table(self, tmp_path: Path):
        start_server()  # has imported torch
        multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="forkserver")
        for rank in range(2):
            uneven, one_idle = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
            assert uneven["index"].tolist() == [0, 1, 2, 3, 4]  # 0 is on both ranks
            assert uneven["psnr"].tolist() == [0, 10, 20, 30, 40]
            assert uneven["severity"].tolist() == [0, 1, 2, 3, 4]
            assert one_idle["index"].tolist() == [2**40, 2**40 + 1]
            assert one_idle["psnr"].tolist() == [1, 2]
            assert uneven["image"].tolist() == [0, 1, 4, 9, 16]
            assert "image" not in one_idle


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    table = PerImage()
    for batch in [[[4, 0], [2]], [[1, 3, 0]]][rank]:
        index = torch.tensor(batch)
        table.update(index, {"psnr": 10.0 * index, "severity": index}, index * index)
    uneven = table.compute()
    table.reset()
    if rank == 1:
        table.update(torch.tensor([2**40 + 1, 2**40]), {"psnr": torch.tensor([2.0, 1.0])})
    torch.save((uneven, table.compute()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def table(**columns: list[float]) -> dict[str, Tensor]:
    rows = len(next(iter(columns.values())))
    return {"index": torch.arange(rows), **{name: torch.tensor(values) for name, values in columns.items()}}


class TestMeans:
    def test_is_taken_in_float64(self):
        assert per_image.means(table(loss=[16777216.0, 1.0, 1.0]))["loss"] == 16777218 / 3

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_one_result_that_is_not_finite_shows(self, value: float):
        columns = table(loss=[1.0, 2.0, 3.0], psnr=[20.0, value, 22.0])
        assert per_image.not_finite(columns).tolist() == [False, True, False]
        assert not math.isfinite(per_image.means(columns)["psnr"])
        assert per_image.means(columns)["loss"] == 2

    def test_images_without_a_hole_are_left_out_of_its_measures_alone(self):
        columns = table(loss=[1.0, 2.0, 3.0], psnr_hole=[20.0, math.nan, 22.0], psnr_hole_mean=[10.0, math.nan, 11.0])
        assert not per_image.not_finite(columns).any()
        assert per_image.means(columns) == {"loss": 2, "psnr_hole": 21, "psnr_hole_mean": 10.5}

    def test_a_hole_filled_with_nan_is_no_image_without_a_hole(self):
        columns = table(loss=[1.0, math.nan, 3.0], psnr_hole=[20.0, math.nan, 22.0])
        assert per_image.not_finite(columns).tolist() == [False, True, False]
        assert math.isnan(per_image.means(columns)["psnr_hole"])

    def test_no_prediction_is_not_finite(self):
        columns = table(loss=[1.0, 2.0], prediction=[0, -1], label=[0, -1], severity=[math.nan, math.inf])
        assert per_image.not_finite(columns).tolist() == [False, True]
        assert set(per_image.means(columns)) == {"loss"}


def test_rows_of_a_module_say_what_its_columns_are():
    own = with_own([Measure("own", "own", 1, partial=True), Measure("source", "source", role="about")])
    columns = table(loss=[1.0, 2.0], own=[math.nan, 4.0], source=[math.nan, 1.0])
    assert per_image.not_finite(columns).tolist() == [True, False]
    assert not per_image.not_finite(columns, own).any()
    assert per_image.means(columns, own) == {"loss": 1.5, "own": 4}


class TestWorstFirst:
    def test_what_is_not_finite_comes_before_all_others(self):
        columns = table(psnr=[20.0, math.nan, 5.0, 30.0, math.inf])
        assert per_image.worst_first(columns, -columns["psnr"]).tolist() == [1, 4, 2, 0, 3]

    def test_images_without_a_hole_are_not_among_them(self):
        columns = table(psnr_hole=[20.0, math.nan, 5.0])
        assert per_image.worst_first(columns, -columns["psnr_hole"]).tolist() == [2, 0]

    def test_of_classes_only_wrong_ones(self):
        columns = table(confidence=[0.9, 0.4, 0.6, math.nan], prediction=[0, 0, 1, -1], label=[0, 1, 2, 3])
        badness = ClassificationModule.badness(None, columns)  # type: ignore[arg-type]
        assert per_image.worst_first(columns, badness).tolist() == [3, 2, 1]


class TestDigest:
    @staticmethod
    def images(count: int = 12) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(256, (count, 3, 9, 7), generator=generator).float() / 255, torch.arange(count)

    def test_depends_on_no_batch_and_no_precision(self):
        clean, label = self.images()
        levels = torch.arange(256).view(1, 1, 16, 16) / 255
        whole = per_image.image_hashes(clean, label)
        batches = zip(clean.split(5), label.split(5), strict=True)
        assert torch.equal(whole, torch.cat([per_image.image_hashes(*batch) for batch in batches]))
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            assert torch.equal(whole, per_image.image_hashes(clean.to(dtype), label))
            one = torch.zeros(1, dtype=torch.int64)
            assert torch.equal(per_image.image_hashes(levels, one), per_image.image_hashes(levels.to(dtype), one))

    def test_tells_any_other_images(self):
        clean, label = self.images()
        known = {per_image.digest(per_image.image_hashes(clean, label)).digest}
        changed = clean.clone()
        changed[3, 1, 2, 2] += 1 / 255 if changed[3, 1, 2, 2] < 0.5 else -1 / 255
        swapped = clean.clone()
        swapped[0, 0, 0, 0], swapped[0, 0, 0, 1] = clean[0, 0, 0, 1], clean[0, 0, 0, 0]
        others = [
            (changed, label), (swapped, label), (clean, label.roll(1)), (clean.roll(1, 0), label.roll(1)),
            (clean.mT.contiguous(), label), (clean.flip(3), label), (clean[:-1], label[:-1]), (clean * 0, label),
            (torch.zeros(12, 3, 9, 8), label), (torch.zeros(12, 3, 8, 9), label),
        ]  # fmt: skip
        for other in others:
            found = per_image.digest(per_image.image_hashes(*other))
            assert len(found.digest) == 16
            assert found.count == len(other[0])
            assert found.digest not in known
            known.add(found.digest)


def test_the_best_weights_are_not_validated_again(compose: Compose, tmp_path: Path) -> None:
    config = compose(
        "model=restoration", "model/net=dncnn", "model.net.depth=3", "model.ema=0.5", "optimizer=adam",
        "optimizer.lr=0.1", "scheduler=constant", "trainer.max_epochs=4", "trainer.limit_train_batches=6",
        "trainer.limit_test_batches=1", "accelerator=cpu", "logger=none",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.delattr(Trainer, "validate")
        train(config, tmp_path, {})
    record = json.loads((tmp_path / "metrics.json").read_text())
    rows = [float(row["val/psnr"]) for row in csv.DictReader((tmp_path / "metrics.csv").open())]
    assert rows[-1] < max(rows)  # else the latest validation would do
    module, data, trainer, _ = build.run(config, tmp_path / "again")
    load_weights(module, tmp_path / "checkpoints" / "best.ckpt")
    trainer.validate(module, datamodule=data, verbose=False)
    known = {name: value for name, value in record.items() if name.startswith("val/")}
    assert known == module.summary
    assert list(known) == list(module.summary)
