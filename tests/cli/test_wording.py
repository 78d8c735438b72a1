"""The lines a run begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fcnseg.cli.wording import described, in_detail
from fcnseg.engine import select
from fcnseg.types import EngineInfo, Verification

FOUND = Verification(True, 0.99, 0.9954, "somewhere", None, (), "8 photographs", 0.1)
INFO = EngineInfo(
    "openvino", "AMD EPYC 9654 96-Core Processor", "bf16", "street-fcn8s", "0" * 64, {}, ("color",), {}, FOUND
)


def test_the_first_line_names_model_arithmetic_library_and_device() -> None:
    assert described(INFO) == [
        "street-fcn8s: bf16 by openvino on AMD EPYC 9654 96-Core Processor",
        "bf16 changes 0.46 % of the labels; --precision fp32 changes none",
    ]


@pytest.mark.parametrize("model", ["street-fcn8s", "m" * 64])
@pytest.mark.parametrize("device", ["cuda:0", "Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz, whatever else it says"])
@pytest.mark.parametrize("agreement", [0.97, 0.99999, 1.0])
def test_lines_fit_eighty_columns_and_claim_no_accuracy(model: str, device: str, agreement: float) -> None:
    lines = described(replace(INFO, model=model, device=device, verification=replace(FOUND, agreement=agreement)))
    assert all(len(line) <= 80 for line in lines)
    assert "%" not in lines[0]
    assert f"{agreement:.2%}" not in " ".join(lines)


def test_what_computes_as_the_network_does_has_one_line() -> None:
    assert len(described(replace(INFO, precision="fp32", verification=replace(FOUND, agreement=1.0)))) == 1
    assert described(replace(INFO, backend="torch", device="cpu", precision="fp32", verification=None)) == [
        "street-fcn8s: fp32 by torch on cpu"
    ]


def test_an_engine_that_was_not_compared_is_named() -> None:
    assert described(replace(INFO, verification=None))[1] == "this engine was not compared with the fp32 network"


def test_verbose_has_the_agreement() -> None:
    assert any("99.540% of pixels labelled as by the fp32 network" in line for line in in_detail(INFO))


def test_a_gpu_that_is_not_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _, reason = select.choose_backend("auto", "auto", "auto")
    lines = described(replace(INFO, choice=f"{reason}, the fastest precision that gives the network's labels"))
    assert len(lines) == 3
    assert lines[2].startswith("an NVIDIA GPU is here, but")
