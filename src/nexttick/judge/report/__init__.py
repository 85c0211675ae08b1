"""The report of an evaluation: one page that needs nothing beside it."""

from __future__ import annotations

from nexttick.judge.report.page import render, write_report

__all__ = ["render", "write_report"]
