"""What W&B costs a run of 60 s: offline, and with a key and a server that accepts and never answers.

Each is a real `python run.py` in a process of its own, so that importing wandb counts. What is counted is the CPU time
of the logger's thread, of wandb's own threads and of its service process, and how long the run itself waited for the
logger: while it trained and at its end. Figures that do not depend on what else the machine does, unlike the
difference of two runs of 60 s. `make bench` prints them.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, data_root

SECONDS = 60
MOST = 0.03

MEASURE = f"""
import resource, sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
import run
from recon.dashboards import threaded
from recon.dashboards.base import About
from recon.dashboards.csv import CSV
from recon.dashboards.wandb import WandB

spent = dict(threads=0.0, service=0.0, sending=0.0, end=0.0)

def timed(method, name):
    def measured(*arguments):
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            if threading.current_thread() is threading.main_thread():
                spent[name] += time.perf_counter() - start
    return measured

def work(self):
    try:
        inner(self)
    finally:
        spent["threads"] += time.thread_time()

def of_wandbs_threads():
    clocks = [time.pthread_getcpuclockid(t.ident) for t in threading.enumerate() if "wandb" in t.name]
    return sum(map(time.clock_gettime, clocks))

before_close = WandB.close
def counted_close(self, metrics, status):
    spent["threads"] += of_wandbs_threads()
    before_close(self, metrics, status)
WandB.close = counted_close

inner = threaded.ThreadedLogger._work
threaded.ThreadedLogger._work = work
threaded.ThreadedLogger.send = timed(threaded.ThreadedLogger.send, "sending")
threaded.ThreadedLogger.close = timed(threaded.ThreadedLogger.close, "end")
status = run.main()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
spent["service"] = used.ru_utime + used.ru_stime
import json
print("spent:", json.dumps(spent))
sys.exit(status)
"""


def spent(folder: Path, **environment: str) -> dict[str, float]:
    """Seconds that the logger of a run cost."""
    words = ["model=classifier", "task=mnist", f"data.root={data_root()}", "logger=wandb", f"hydra.run.dir={folder}"]
    words += [f"trainer.max_time=00:00:00:{SECONDS - 1}", "trainer.enable_progress_bar=false", "accelerator=cpu"]
    chosen = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        env=chosen, cwd=folder.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("spent: ")]
    found: dict[str, float] = json.loads(line.removeprefix("spent: "))
    metrics = json.loads((folder / "metrics.json").read_text())
    print(
        f"\nfit {metrics['train/seconds']:.1f} s; CPU time of the logger's thread and wandb's {found['threads']:.2f} s,"
    )
    print(f"of the service {found['service']:.2f} s; the run waited {found['sending']:.3f} s in training and test,")
    print(f"{found['end']:.2f} s at its end")
    return found


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize("server", ["offline", "silent"])
def test_wandb_costs_a_run_of_a_minute_at_most_3_percent(server: str, tmp_path: Path) -> None:
    if not (data_root() / "MNIST").is_dir() and not list(data_root().glob("*mnist*")):
        pytest.skip("needs MNIST in RECON_DATA")
    if server == "offline":
        found = spent(tmp_path / "run", WANDB_MODE="offline")
    else:
        with socket.create_server(("127.0.0.1", 0)) as held:  # the system accepts, nobody reads
            url = f"http://127.0.0.1:{held.getsockname()[1]}"
            found = spent(tmp_path / "run", WANDB_API_KEY="0" * 40, WANDB_BASE_URL=url)
    assert found["threads"] + found["service"] <= MOST * SECONDS
    assert found["sending"] + found["end"] <= MOST * SECONDS
