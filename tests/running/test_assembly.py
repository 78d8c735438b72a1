"""An HDF5 file whose making is cut off at any step is whole, and nothing it holds is done again."""

from pathlib import Path
from typing import Any

import pytest

import fcnseg
from fcnseg.running import assembly
from fcnseg.running.volumes import Volume
from fcnseg.types import Summary
from tests.conftest import TinyModel, photograph


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("step", ["announce", "note", "discard"])
@pytest.mark.parametrize("earlier", [0, 3])
def test_cut_off_at_a_step(
    tmp_path: Path, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, step: str, earlier: int
) -> None:
    def run(out: str) -> Summary:
        return fcnseg.run(
            tmp_path / "photos", tmp_path / out, model=str(tiny.recipe), weights=tiny.weights, backend="torch"
        )

    def cut(*_: Any) -> None:
        raise PowerCutError

    if earlier:
        for i in range(earlier):
            photograph(tmp_path / f"photos/{i}.png", seed=i)
        run("masks.h5")
    for i in range(6):
        photograph(tmp_path / f"photos/{i}.png", seed=i)
    places: dict[str, tuple[Any, str]] = {
        "announce": (assembly, "announce_volume"),
        "note": (assembly, "note_volume"),
        "discard": (Volume, "discard_staged"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*places[step], cut)
        with pytest.raises(PowerCutError):
            run("masks.h5")
    again = run("masks.h5")
    assert (again.done, again.kept) == (0, 6)
    run("undisturbed.h5")
    assert (tmp_path / "masks.h5").read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()
    assert not [path for path in (tmp_path / ".masks.h5.fcnseg").rglob("*.png") if path.name != "legend.png"]
