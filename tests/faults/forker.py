"""A process that has imported all a worker needs and computed nothing: workers are forked from it and begin at once.

Run as a script. Each line on standard input is one request in JSON, each line on standard output its answer:

    {"fork": JOB}                     {"pid": 12}
    {"wait": 12, "seconds": 60}       {"code": 0, "answer": {...}}, code null if it has not ended by then; a negative
                                      code is the signal that ended it, and there is no answer then
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from typing import Any

from sam_core.process import share_cores

share_cores()

import torch  # noqa: E402
import torch.optim  # noqa: E402

import sam_core.datasets  # noqa: E402
from sam_core.config import RunConfig  # noqa: E402
from sam_core.training.lifecycle import train  # noqa: E402
from tests.faults import injections  # noqa: E402

#: The layouts of datasets are imported when they are first looked for.
for about in pkgutil.iter_modules(sam_core.datasets.__path__, "sam_core.datasets."):
    importlib.import_module(about.name)


def main() -> None:
    """Answer requests until standard input is closed; then nothing that was forked here is left."""
    answers: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "fork" in request:
            pid, answers_from = _fork(request["fork"])
            answers[pid] = answers_from
            reply: dict[str, Any] = {"pid": pid}
        else:
            reply = _wait(request["wait"], request["seconds"], answers)
        print(json.dumps(reply), flush=True)
    for pid in answers:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)  # the libraries take seconds to tidy up


def _fork(job: dict[str, Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        # Through a pipe: where the disk is full, the answer must still arrive.
        os.write(writing, json.dumps(_work(job)).encode())
        os._exit(0)
    os.close(writing)
    return pid, reading


def _wait(pid: int, seconds: float, answers: dict[int, int]) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > end:
            return {"code": None}
        time.sleep(0.002)
    with os.fdopen(answers.pop(pid), "rb") as pipe:
        answer = pipe.read()
    return {"code": os.waitstatus_to_exitcode(status), "answer": json.loads(answer) if answer else None}


def _work(job: dict[str, Any]) -> dict[str, Any]:
    """Train or resume, under whatever faults the job names; what came of it."""
    torch.set_num_threads(1)
    if job["at"] is not None:
        time.sleep(max(0.0, job["at"] - time.monotonic()))
    counters = [getattr(injections, name)(**options) for name, options in job["faults"]]
    try:
        if job["resume"] is None:
            run = train(RunConfig.from_json(job["config"]), runs=job["runs"], quiet=True)
        else:
            run = train(resume=job["resume"], runs=job["runs"], quiet=True)
        answer = {"state": run.status["state"]}
    except BaseException as error:
        answer = {
            "error": type(error).__name__, "kind": getattr(error, "kind", None), "message": str(error),
            "hint": getattr(error, "hint", None), "traceback": traceback.format_exc()[-3000:],
        }  # fmt: skip
    return answer | {"counts": [counter() for counter in counters]}


if __name__ == "__main__":
    main()
