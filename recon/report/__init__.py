"""Run folders to one self-contained page, to read from disk: no server, no network, nothing that runs from a run."""

from recon.report.page import write

__all__ = ["write"]
