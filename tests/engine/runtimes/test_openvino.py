import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import TinyModel

HELD = """
import os, signal, sys, threading
sys.path.insert(0, {folder!r})
threading.Thread(target=threading.Event().wait, daemon=True).start()
from fcnseg.engine.runtimes.openvino import _library
try:
    _library()
except KeyboardInterrupt:
    print("loaded" if sys.modules["openvino"].whole else "broken")
"""


def test_ctrl_c_waits_for_the_import_of_openvino(tmp_path: Path) -> None:
    module = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nwhole = True\n"
    (tmp_path / "openvino.py").write_text(module)
    done = subprocess.run(
        [sys.executable, "-c", HELD.format(folder=str(tmp_path))], capture_output=True, text=True, check=True
    )
    assert done.stdout == "loaded\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


STARVED = """
import resource
import numpy as np
import psutil
from pathlib import Path
from fcnseg.engine.load import load_engine
from fcnseg.errors import ImageError
from fcnseg.recipes import load_recipe

def image(side):
    return {{"color": np.random.default_rng(side).integers(0, 256, (1, side, side, 3), dtype=np.uint8)}}

failed = 0
with load_engine(load_recipe(Path({recipe!r})), Path({engine!r})) as engine:
    right = engine.infer(image(64))[0]["labels"]
    for step in range(12):
        limit = psutil.Process().memory_info().vms + (2 * step << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            engine.infer(image(800 + 100 * step))
        except ImageError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (engine.infer(image(64))[0]["labels"] == right).all(), (step, failed)
print("failed", failed)
"""


def test_labels_are_right_or_none_where_memory_runs_out(coarse: TinyModel, built: Path) -> None:
    """After a failed allocation, the model that OpenVINO has in memory gives other labels without a word."""
    script = STARVED.format(recipe=str(coarse.recipe), engine=str(built))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"failed [1-9]\d*\n", done.stdout), (done.stdout, done.stderr)
