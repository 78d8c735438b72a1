from fcnseg.running.dry_run import Estimate, SampledSource
from fcnseg.types import Reference
from tests.fakes import MemorySource


def test_outputs_of_one_file_system_share_its_room() -> None:
    found = Estimate(1, 1, {}, bytes_written={"labels": 60, "probabilities": 30, "overlay": 60})
    found.bytes_needed = {"labels": 60, "probabilities": 60, "overlay": 60}
    found.free_bytes = dict.fromkeys(found.bytes_needed, 100)
    found.file_systems = {"labels": 1, "probabilities": 1, "overlay": 2}
    assert found.too_large == ["labels", "probabilities"]


def test_a_sampled_source_lists_some_places_and_counts_sizes() -> None:
    keys = [f"{i}.jpg" for i in range(10)]
    source = SampledSource(MemorySource(keys, sizes={"6.jpg": (5, 7)}), frozenset([0, 3, 6]))
    listed = [reference for reference in source if isinstance(reference, Reference)]
    assert [reference.key for reference in listed] == ["0.jpg", "3.jpg", "6.jpg"]
    for reference in listed:
        source.load(reference)
    assert source.sizes == {(4, 6): 2, (5, 7): 1}
