"""Runs the row Greet of the demo: python demo.py mqtt://127.0.0.1:18830 http://127.0.0.1:18080"""

import sys

from mqtt_job_listener import Jobs

broker, page = sys.argv[1:3]
with Jobs(broker, page=page) as jobs:
    run = jobs.run("Greet", name="Python")
    end = run.wait(timeout=60)
    print(f"{end.run_name} {end.status}: {end.message}")
    print(run.log())
