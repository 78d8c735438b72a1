import subprocess
import sys
from pathlib import Path

from fcnseg.io.atomic import PART, PROCESS
from fcnseg.running.claims import Claimant, dead_claimants, forget, is_alive, remove_unfinished


def test_a_claimant_lives_as_long_as_its_process(tmp_path: Path) -> None:
    with Claimant(tmp_path) as name:
        assert is_alive(tmp_path, name)
    assert not is_alive(tmp_path, name)
    script = (
        "import sys, time; from pathlib import Path; from fcnseg.running.claims import Claimant\n"
        "with Claimant(Path(sys.argv[1])) as name: print(name, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        name = other.stdout.readline().strip()
        assert is_alive(tmp_path, name)
        other.kill()
    assert not is_alive(tmp_path, name)
    assert dead_claimants(tmp_path) == [name]
    forget(tmp_path, [name])
    assert not list(tmp_path.iterdir())


def test_only_the_dead_claimants_unfinished_files_go(tmp_path: Path) -> None:
    for process in (PROCESS, "other"):
        (tmp_path / f"{PART}{process}-1-0").touch()
    remove_unfinished("other-0", {tmp_path, tmp_path / "never made"})
    assert [p.name for p in tmp_path.iterdir()] == [f"{PART}{PROCESS}-1-0"]
