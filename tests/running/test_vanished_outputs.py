"""The output folder, or the records in it, is removed or replaced while a run goes on."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fcnseg
from fcnseg.errors import OutputError, SettingsError
from fcnseg.io.storage import LocalFolder
from fcnseg.types import Summary
from tests.conftest import TinyModel, photograph

IMAGES = 60
Run = Callable[..., Summary]


@pytest.fixture
def run(tmp_path: Path, tiny: TinyModel) -> Run:
    for i in range(IMAGES):
        photograph(tmp_path / f"photos/{i % 3}/{i:02}.png", seed=i)

    def call(disturb: Callable[[], object] = lambda: None, out: str = "masks", **options: object) -> Summary:
        results = 0

        def on_result(*_: object) -> None:
            nonlocal results
            results += 1
            if results == 5:
                disturb()

        return fcnseg.run(
            tmp_path / "photos",
            tmp_path / out,
            model=str(tiny.recipe),
            weights=tiny.weights,
            backend="torch",
            hooks=fcnseg.Hooks(on_result=on_result),
            **options,  # type: ignore[arg-type]
        )

    return call


def vanish(folder: Path) -> None:
    """Remove a folder at once, while others write into it."""
    away = folder.rename(folder.parent / "away")
    while away.exists():
        shutil.rmtree(away, ignore_errors=True)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_an_output_folder_that_goes_ends_the_run(run: Run, tmp_path: Path, moved: bool, replaced: bool) -> None:
    def disturb() -> None:
        (tmp_path / "masks").rename(tmp_path / "elsewhere") if moved else vanish(tmp_path / "masks")
        if replaced:
            (tmp_path / "masks").mkdir()

    with pytest.raises(OutputError, match="removed or replaced") as caught:
        run(disturb)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("masks/**/*.png")), "nothing is written into a folder of no run"
    assert run().done == IMAGES


def test_records_that_go_end_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ledger .* removed or replaced .* start over with --overwrite"):
        run(lambda: vanish(tmp_path / "masks/.fcnseg"))
    assert not (tmp_path / "masks/.fcnseg").exists()
    with pytest.raises(SettingsError, match="--overwrite"):
        run()
    assert run(resume="overwrite").done == IMAGES


def test_records_that_go_when_all_is_written_end_the_run_too(run: Run, tmp_path: Path) -> None:
    run()
    for i in range(5):
        (tmp_path / f"masks/{i % 3}/{i:02}.png").unlink()
    with pytest.raises(OutputError, match="removed or replaced"):
        run(lambda: vanish(tmp_path / "masks/.fcnseg"))


def test_the_hidden_folder_of_an_hdf5_file_that_goes_ends_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="removed or replaced"):
        run(lambda: vanish(tmp_path / ".masks.h5.fcnseg"), "masks.h5")
    assert run(out="masks.h5").done == IMAGES


def test_outputs_that_are_recorded_are_there_at_the_end(run: Run, tmp_path: Path) -> None:
    def disturb() -> None:
        for path in list((tmp_path / "masks").glob("*/*.png"))[:2]:
            path.unlink()

    with pytest.raises(OutputError, match=r"gone or have another size .*run the same command again"):
        run(disturb)
    again = run()
    assert (again.done + again.kept, again.done > 0) == (IMAGES, True)


def test_a_folder_of_probabilities_that_goes_ends_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="removed or replaced"):
        run(lambda: vanish(tmp_path / "probabilities"), probabilities=str(tmp_path / "probabilities"))
    again = run(probabilities=str(tmp_path / "probabilities"))
    assert again.done + again.kept == IMAGES


def test_a_folder_that_goes_while_a_file_is_written_is_no_fault_of_the_image(tmp_path: Path) -> None:
    storage = LocalFolder(tmp_path / "out")
    storage.place("a", [b"1"])

    def content() -> Iterator[bytes]:
        vanish(tmp_path / "out")
        yield b"2"

    with pytest.raises(OutputError, match="removed or replaced"):
        storage.place("folder/b", content())
