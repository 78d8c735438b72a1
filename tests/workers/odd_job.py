"""A job for another process, that ends as it is told to."""

import ctypes
import json
import os
import sys
from pathlib import Path

import fcnseg
from fcnseg.workers.json_job import begin_job, run_job


def main() -> None:
    job, tell = begin_job()
    if job["habit"] == "tells":
        print("a library prints on standard output")
        tell({"package": fcnseg.__file__, "path": sys.path})
    if job["habit"] == "dies":
        os.write(2, b"".join(b"line %d\n" % i for i in range(10_000)) + b"terminate called: \xff\n\n")
        os._exit(3)
    if job["habit"] == "is stuck":  # in a library, with its main thread
        Path(job["work"]).mkdir()
        Path(job["work"], "unfinished").touch()
        tell({"pid": os.getpid()})
        ctypes.CDLL(None).sleep(600)


if __name__ == "__main__":  # one that asks, to be killed
    run_job(
        "tests.workers.odd_job", {"habit": "is stuck", "work": sys.argv[1]}, lambda m: print(json.dumps(m), flush=True)
    )
