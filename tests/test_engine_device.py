"""Which device is taken, and what is said when it is not there."""

from __future__ import annotations

import ctypes
import resource

import pytest
import torch

from segfed.engine import select_device
from segfed.engine.device import has_bfloat16_units, mixed_precision, place, reused_memory
from segfed.errors import ConfigError


def test_auto_takes_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto").type == "cpu"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert select_device("auto").type == "cuda"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="finds no CUDA device here"):
        select_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "meta", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(ConfigError, match="expected 'auto', 'cpu' or 'cuda'"):
        select_device(name)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)],
)
def test_a_cpu_computes_in_bfloat16_only_in_hardware(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    cpu = torch.device("cpu")

    with mixed_precision(cpu):
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert has_bfloat16_units(cpu) is expected
    assert product.dtype == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.parametrize(("device", "expected"), [("cuda", (True, False)), ("cpu", (False, True))])
def test_convolutions_on_a_gpu_repeat_themselves(monkeypatch, device, expected):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    network = torch.nn.Conv3d(1, 1, 3)
    monkeypatch.setattr(network, "to", lambda *_, **__: network)  # there may be no GPU here

    place(network, torch.device(device))

    found = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    assert found == expected


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_memory_is_kept_for_the_next_tensor_while_a_training_runs_and_given_back_afterwards():
    pages = 2**26 // resource.getpagesize()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with reused_memory(torch.device("cpu")):
        again = min(faults() for _ in range(4))  # the first ones make room
    afterwards = faults()

    # 64 MiB, whose pages are new unless the memory was kept; a system may hand out larger ones
    assert again < pages / 100 < afterwards or afterwards < pages / 100
