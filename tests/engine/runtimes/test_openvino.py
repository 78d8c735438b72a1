import signal
import subprocess
import sys
from pathlib import Path

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
