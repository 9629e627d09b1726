"""What a run does beside training, in CPU seconds: `python tests/benchmarks/shares.py model=vae trainer.max_epochs=1`.

Where `trainer.limit_train_batches` is a number, training counts as long as a whole epoch of such batches would take.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from recon import cli
from recon.training.quick import quick_imports

took: dict[str, float] = defaultdict(float)
inner = [0.0]  # seconds within what is measured now that are measured by themselves
scale = 1.0


def measured(owner: Any, name: str, part: str) -> None:
    """Let a function count its seconds, without those of measured functions that it calls, as of a part."""
    function: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        inner.append(0.0)
        try:
            return function(*arguments, **options)
        finally:
            seconds = time.process_time() - start
            took[part] += seconds - inner.pop()
            inner[-1] += seconds

    setattr(owner, name, counted)


def main() -> None:
    """Carry out the run of the command line and print its parts."""
    with quick_imports():
        from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
        from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

        from recon.training.checkpoints import Checkpoints
        from recon.training.cost import Cost
        from recon.training.pictures import Pictures
    took["start, imports"] = time.process_time()
    advance = _TrainingEpochLoop.advance

    def stepped(loop: Any, *arguments: Any) -> None:
        global scale
        scale = len(loop.trainer.train_dataloader) / loop.trainer.num_training_batches
        advance(loop, *arguments)

    _TrainingEpochLoop.advance = stepped
    measured(_TrainingEpochLoop, "advance", "training")
    measured(_EvaluationLoop, "run", "validation and test")
    measured(Pictures, "on_validation_end", "pictures")
    measured(Pictures, "on_test_end", "pictures")
    measured(Cost, "on_test_end", "cost of the net")
    measured(Checkpoints, "write", "checkpoints")
    measured(Checkpoints, "_write_best", "checkpoints")
    cli.main()
    took["other"] = time.process_time() - sum(took.values())
    took["training"] *= scale
    whole = sum(took.values())
    print(", ".join(f"{part} {seconds:.2f} s" for part, seconds in took.items()))
    later = whole - took["start, imports"]
    print(f"not training: {1 - took['training'] / whole:.1%}, {1 - took['training'] / later:.1%} after the imports")


if __name__ == "__main__":
    main()
