"""The worker of TestPythonWorkersKilledInTheMiddle. It does what slowJob in kill_test.go does."""

import time

from orgcast import current_organization
from orgcast.worker import GiveUp, Job, main


def slow_job(job: Job) -> dict[str, object]:
    number = int(job.id.removeprefix("job-"))
    says = current_organization()
    job.progress({"type": "step", "task_id": job.id, "says": says})
    time.sleep((10 + number % 20) / 1000)
    if number % 11 == 0:
        raise GiveUp("eleventh")
    if number % 7 == 0 and job.attempt == 1:
        raise ValueError("seventh")
    return {"type": "task_complete", "task_id": job.id, "says": says}


main({"job": slow_job})
