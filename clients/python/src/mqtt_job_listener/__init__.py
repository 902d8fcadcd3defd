"""Starts rows of an MQTT Job Listener, and waits for the ends of their runs.

    from mqtt_job_listener import Jobs

    with Jobs("mqtt://localhost:1883") as jobs:
        end = jobs.run("sort", uuid="e1").wait()
        print(end.status, end.result)
"""

from .client import Jobs, Run
from .errors import JobsError, NoAnswer, RequestRefused, RunFailed
from .messages import End

__all__ = ["End", "Jobs", "JobsError", "NoAnswer", "RequestRefused", "Run", "RunFailed"]
