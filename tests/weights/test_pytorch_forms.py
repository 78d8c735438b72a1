"""PyTorch files of every kind that people have: read, or refused by the class that is in the way."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcnseg.errors import SettingsError, WeightsError
from fcnseg.weights.reading import read_weights
from tests.conftest import Outcome
from tests.weights.conftest import MakeRecipe, as_torch, check, numbers
from tests.weights.forms import save_as_python_2

Form = Callable[[Any, Path], object]


def state(fill: float = 1) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict({"conv1.weight": torch.full((3, 2), fill), "conv1.bias": torch.zeros(3)})


FORMS: dict[str, Form] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "python 2": save_as_python_2,
}
form = pytest.mark.parametrize("form", FORMS)

TAKEN = {
    "state_dict_ema": lambda s: {"state_dict_ema": s},
    "net": lambda s: {"net": s, "acc": 0.9, "epoch": 3},
    "network": lambda s: {"network": s},
    "weights": lambda s: {"weights": s},
    "params": lambda s: {"params": s},
    "model_state": lambda s: {"model_state": s},
    "state_dict.model": lambda s: {"state_dict": {"model": s}},
    "my net": lambda s: {"my net": s},
    "model_state_dict": lambda s: {
        "arch": "FCN8s",
        "optim_state_dict": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "model_state_dict": s,
        "best_mean_iu": np.float64(0.5),
    },
}


@form
@pytest.mark.parametrize("key", TAKEN)
def test_one_nested_state_dict_is_taken_and_said(key: str, form: str, tmp_path: Path) -> None:
    FORMS[form](TAKEN[key](state()), tmp_path / "x.pth")
    file = read_weights(tmp_path / "x.pth")
    assert set(file.tensors) == {"conv1.weight", "conv1.bias"}
    np.testing.assert_array_equal(file.tensors["conv1.weight"], 1)
    assert key in file.notes[0]
    assert file.metadata.get("arch") == ("FCN8s" if key == "model_state_dict" else None)


@form
def test_several_are_named_and_one_can_be_chosen(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    FORMS[form]({"model": state(), "model_ema": state(2), "ema": {"decay": 0.9, "shadow 1": state(3)}}, path)
    with pytest.raises(WeightsError, match=r"model, model_ema, 'ema\.shadow 1'; .* --key model`"):
        read_weights(path)
    for key, value in (("model", 1), ("model_ema", 2), ("ema.shadow 1", 3)):
        assert read_weights(path, key).tensors["conv1.weight"][0, 0] == value
    with pytest.raises(SettingsError, match="no state dict 'mdoel'; it has model"):
        read_weights(path, "mdoel")


def test_a_key_is_for_checkpoints_only(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "x.pth")
    assert read_weights(tmp_path / "x.pth", ".").tensors
    from safetensors.torch import save_file

    save_file(state(), tmp_path / "x.safetensors")
    with pytest.raises(SettingsError, match="--key"):
        read_weights(tmp_path / "x.safetensors", "model")


def network() -> torch.nn.Module:
    return torch.nn.Sequential(OrderedDict(conv1=torch.nn.Linear(2, 3)))


IN_THE_WAY: dict[str, tuple[Callable[[], Any], str]] = {
    "module": (network, "torch.nn.modules.container.Sequential"),
    "module in a dictionary": (lambda: {"epoch": 1, "model": network()}, "torch.nn.modules.container.Sequential"),
    "namespace": (lambda: {"args": argparse.Namespace(lr=1), "state_dict": state()}, "argparse.Namespace (in args)"),
    "deep": (lambda: {"args": argparse.Namespace(), "state_dict": {"model": state()}}, "argparse.Namespace (in args)"),
    "beside": (lambda: {**state(), "cfg": argparse.Namespace()}, "argparse.Namespace (in cfg)"),
    "array": (lambda: {"state_dict": state(), "confusion": np.eye(3)}, "numpy.ndarray (in confusion)"),
    "arrays": (lambda: {k: v.numpy() for k, v in state().items()}, "numpy.ndarray (in conv1.weight)"),
    "path": (lambda: {"out": Path("runs"), "net": state()}, "pathlib."),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_the_class_in_the_way_is_named_and_the_line_makes_a_clean_file(
    kind: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, words = IN_THE_WAY[kind]
    FORMS[form](make(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=re.escape(words)) as caught:
        read_weights(tmp_path / "x.pth")
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    monkeypatch.chdir(tmp_path)
    exec(message.partition("is installed: ")[2], {"torch": torch})  # what a user would paste
    assert set(read_weights(tmp_path / "clean.pth").tensors) == {"conv1.weight", "conv1.bias"}


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), None, {}, {"a": 1}, {1: torch.ones(2)}])
def test_what_holds_no_state_dict_says_so(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"save `model\.state_dict\(\)`"):
        read_weights(tmp_path / "x.pth")


def test_a_file_under_another_formats_name_is_read(tmp_path: Path) -> None:
    for name in ("x.safetensors", "x.caffemodel", "x.zip", "x.h5"):
        torch.save(state(), tmp_path / name)
        assert read_weights(tmp_path / name).format == "pytorch"


def test_import_takes_a_key(recipe: MakeRecipe, fcnseg: Callable[..., Outcome], tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small, seed=1)
    torch.save({"model": as_torch(numbers(small)), "model_ema": as_torch(arrays)}, tmp_path / "x.pth")
    refused = fcnseg("weights", "import", tmp_path / "x.pth", "--model", small.path, "--out", tmp_path / "out")
    assert (refused.code, refused.error_line) == (1, refused.err.strip())
    words = ("import", tmp_path / "x.pth", "--model", small.path, "--out", tmp_path / "out", "--key", "model_ema")
    assert fcnseg("weights", *words).code == 0
    check(tmp_path / "out", arrays)
    assert (
        "note: the state dict is model_ema"
        in fcnseg("weights", "inspect", tmp_path / "x.pth", "--key", "model_ema").out
    )
