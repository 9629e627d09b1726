"""The report tells what an adversarial training said of its health, when it returned, and what to change."""

import shutil
from pathlib import Path

from report_runs import text_of

from recon.health import ADVICE
from recon.runs.files import write_csv

SIGNS = [{"step": 25 * look, "diversity": 0.9 - 0.05 * look, "state": 0 if look < 6 else 3} for look in range(1, 9)]


def test_the_report_tells_the_state_the_returns_and_what_to_change(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "others" / "gan", run)
    (run / "health.csv").unlink(missing_ok=True)
    assert "Health of the trainings" not in text_of(str(run), tmp_path)
    write_csv(run / "health.csv", SIGNS)
    event = {"step": 150, "state": 3, "back": 100, "rate": 0.25, "r1": 0.1}
    write_csv(run / "health_events.csv", [event])
    text = text_of(str(run), tmp_path)
    told = text.partition("Health of the trainings")[2]
    for words in ("collapsing", "62 %", "150", "from 150 to 100", ADVICE["collapsing"], "step 200"):
        assert words in told, words


def test_a_damaged_table_is_a_fault_and_no_section(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "others" / "gan", run)
    (run / "health.csv").write_text("step,state\n1,<b>\n")
    text = text_of(str(run), tmp_path)
    assert "Health of the trainings" not in text
    assert "health.csv" in text
