"""The service's messages, read and checked: whoever may publish below its prefix may have sent them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

#: Bytes of a message that is looked into.
LARGEST_MESSAGE = 1024 * 1024


@dataclass(frozen=True)
class End:
    """How a run ended, as ``job_complete/{row}`` or ``job_failed/{row}`` says it."""

    run_name: str
    job_name: str
    #: ``succeeded``, ``failed`` or ``cancelled``.
    status: str
    #: One CamelCase word for programs, such as ``OOMKilled``.
    reason: str
    #: One sentence for people.
    message: str
    exit_code: Optional[int] = None
    log_url: str = ""
    #: What the program wrote into RESULT_FILE.
    result: Any = None
    #: The first attempt, where this was a further one.
    first_run: Optional[str] = None
    #: The message as it came.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


def read_object(payload: bytes) -> Optional[Mapping[str, Any]]:
    """The JSON object of a message; None: it is none."""
    if len(payload) > LARGEST_MESSAGE:
        return None
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_end(payload: bytes) -> Optional[End]:
    """None: it is no end of a run."""
    said = read_object(payload)
    if said is None:
        return None
    words = [said.get(name) for name in ("run_name", "job_name", "status", "reason", "message")]
    if not all(isinstance(word, str) for word in words):
        return None
    exit_code, log_url, first_run = said.get("exit_code"), said.get("log_url"), said.get("first_run")
    return End(
        *[str(word) for word in words],
        exit_code=exit_code if isinstance(exit_code, int) else None,
        log_url=log_url if isinstance(log_url, str) else "",
        result=said.get("result"),
        first_run=first_run if isinstance(first_run, str) else None,
        raw=said,
    )
