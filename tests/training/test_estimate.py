"""What a training needs is estimated near enough, and said before the start."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from fcnseg.models import network_spec
from fcnseg.models.arithmetic import feature_values
from fcnseg.models.fcn import FCN
from fcnseg.recipes import find_recipe
from fcnseg.training.estimate import Needs, estimate_needs
from fcnseg.training.stages import run_plan
from tests.conftest import Outcome, TinyModel, photograph
from tests.training.memory import CPU, blocks, plan, preset, tiny_recipe
from tests.training.test_comparison import labelled

Run = Callable[..., Outcome]


@pytest.mark.parametrize("model", ["street-fcn8s", "voc-fcn-alexnet"])
def test_feature_maps_are_about_those_that_a_backward_pass_keeps(model: str) -> None:
    spec = network_spec(replace(find_recipe(model)))
    spec = replace(spec, fc_width=64)
    network, kept = FCN(spec), dict[int, int]()
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.zeros(1, 3, 224, 192))
    assert 0.6 < 4 * feature_values(spec, 224, 192) / sum(kept.values()) < 1.7


def test_the_room_on_disk_is_that_of_the_files(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    how = preset("modern", recipe, batch_size=2, steps=(1,), batch_norm=False)
    done = plan(recipe, how, blocks(recipe, [(40, 40)] * 2), tmp_path / "run")
    needs = estimate_needs(done, CPU)
    run_plan(done, CPU)
    files = {file.name: file.stat().st_size for file in (tmp_path / "run").iterdir()}
    written = 2 * files["checkpoint.pt"] + files["model.safetensors"] + 2 * files["best.safetensors"]
    assert 0.6 < needs.disk / written < 1.4
    assert needs.faults == []
    small = Needs(3 << 30, 1 << 30, 5 << 20, 1 << 20)
    assert small.faults == [
        "the training needs about 3.0 GiB of memory, and 1.0 GiB are free; use a smaller --micro-batch or --crop",
        "the training needs about 5 MiB of disk, and 1 MiB are free; use another --out",
    ]


def test_a_dry_run_says_everything_and_writes_nothing(fcnseg: Run, tiny: TinyModel, tmp_path: Path) -> None:
    labelled(tmp_path / "data", "abcdef", (300, 200))
    labelled(tmp_path / "data", "a", (40, 32))  # the first is a thumbnail
    out = tmp_path / "run"
    words = ("train", tiny.recipe, "--data", tmp_path / "data", "--out", out, "--weights", tiny.weights)
    done = fcnseg(*words, "--dry-run", "--class-weights", "1,2,3,0.5,1", "--freeze", "trunk", "--seed", 3)
    assert done.code == 0, done.err
    for part in ("crops 224x160 px", "trunk frozen; seed 3", "a 1, b 2, c 3, d 0.5, e 1", "batch 8, 8 at once"):
        assert part in done.err
    assert done.out.startswith("memory about ")
    assert not out.exists()
    assert set(json.loads(fcnseg(*words, "--dry-run", "--json").out)) == {"memory", "free_memory", "disk", "free_disk"}
    for options, says in (
        (("--freeze", "head"), "--freeze is 'head'; only the trunk can be"),
        (("--class-weights", "1,x"), "--class-weights is '1,x'; give balanced, none, or a number for each class"),
        (("--class-weights", "1,2"), "2 class weights for the 5 classes"),
        (("--extend",), "no training in"),
    ):
        refused = fcnseg(*words, "--dry-run", *options)
        assert (refused.code, says in refused.error_line) == (2, True), refused.err


def test_hdf5_is_not_told_to_name_its_classes_in_a_text(fcnseg: Run, tiny: TinyModel, tmp_path: Path) -> None:
    images = [np.asarray(Image.open(photograph(tmp_path / f"{n}.png", 40, 32, seed=n))) for n in range(3)]
    labels = np.zeros((3, 32, 40), np.uint8)
    labels[:, 0, 0] = 11
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"], file["labels"] = np.stack(images), labels
    done = fcnseg("train", tiny.recipe, "--data", tmp_path / "data.h5", "--out", tmp_path / "run", "--scratch")
    assert done.code == 2
    assert "name all classes in the attribute `classes` of its dataset of labels" in done.error_line
    assert "classes.txt" not in done.err
