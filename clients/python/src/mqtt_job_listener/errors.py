"""What can go wrong; each message is a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import End


class JobsError(Exception):
    """All of them."""


class NoAnswer(JobsError):
    """The broker or the service did not answer in time. The request may have been carried out."""


class RequestRefused(JobsError):
    """The service has refused a request: there is no such row, or an input is missing."""


class RunFailed(JobsError):
    """A run has not succeeded; ``end`` says how it ended."""

    def __init__(self, end: "End") -> None:
        super().__init__(f"Run {end.run_name} {end.status}: {end.message}")
        self.end = end
