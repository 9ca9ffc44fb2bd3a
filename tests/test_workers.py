"""Worker processes, started from scripts as users write them."""

from __future__ import annotations

import json
import subprocess
import sys

BODY = """
import json, os, signal, sys, time
from dataclasses import dataclass
from rlmba.workers import Died, Raised, Workers

@dataclass
class Do:
    what: str
    def run(self, tick):
        tick()
        if self.what == "raise":
            raise ValueError("no luck")
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "sleep":
            time.sleep(60)
        return [os.environ.get("SLOT"), os.getpid()]

def one(workers, what):
    workers.start(Do(what))
    while not (ended := workers.wait(30)):
        pass
    ((task, result),) = ended
    assert task.what == what
    return result

def main():
    with Workers(2, environment=lambda slot: {"SLOT": str(slot)}) as workers:
        slot, first = one(workers, "answer")
        raised = one(workers, "raise")
        died = one(workers, "die")
        os.kill(one(workers, "answer")[1], signal.SIGKILL)  # it dies while it is idle
        time.sleep(0.2)
        again = one(workers, "answer")
        workers.start(Do("sleep"))
        while not workers.ticks:
            workers.wait(30)
        running, pids = workers.running, workers.pids
    print(json.dumps({
        "slot": slot, "raised": str(raised.error), "died": [str(died), died.started],
        "again": [again[0], again[1] != first], "running": running, "SLOT": os.environ.get("SLOT"),
        "left": [pid for pid in pids if os.path.exists(f"/proc/{pid}")],
    }))
"""

WITHOUT_GUARD = """
with Workers(1) as workers:
    died = one(workers, "answer")
    print(json.dumps([isinstance(died, Died), died.started]))
"""


def script(path, text):
    path.write_text(text)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_results_errors_and_deaths(tmp_path):
    found = script(tmp_path / "a.py", BODY + '\nif __name__ == "__main__":\n    main()\n')
    assert found == {
        "slot": "0",
        "raised": "no luck",
        "died": ["SIGKILL", True],
        "again": ["0", True],
        "running": 1,
        "SLOT": None,
        "left": [],
    }


def test_processes_that_cannot_start_say_so(tmp_path):
    assert script(tmp_path / "a.py", BODY + WITHOUT_GUARD) == [True, False]
