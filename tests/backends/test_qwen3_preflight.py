"""Where the qwen3 engine can run, and what an operator reads where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from backends.qwen3 import nvidia_driver
from backends.qwen3.nvidia_driver import Driver, read_driver
from backends.qwen3.preflight import driver_refusal, gpu_count

NVML = """
#include <string.h>
int nvmlInit_v2(void) { return %(init)d; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned length) { strncpy(version, "550.54.14", length); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(0x700000000000UL + index); return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    if ((unsigned long)device == 0x700000000001UL) { *major = 9; *minor = 0; } else { *major = 7; *minor = 0; }
    return 0;
}
"""
"""A driver's library with two GPUs, since a test machine has none."""


def install_driver(monkeypatch: pytest.MonkeyPatch, folder: Path, init: int = 0) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = folder / "nvml.c", folder / "nvml.so"
    source.write_text(NVML % {"init": init})
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(nvidia_driver, "_NVML", str(library))


def test_the_driver_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver's version and the compute capability of each GPU come from NVML."""
    install_driver(monkeypatch, tmp_path)
    assert read_driver() == Driver("550.54.14", ((7, 0), (9, 0)))
    assert gpu_count() == 2


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver whose kernel module is missing counts as none."""
    install_driver(monkeypatch, tmp_path, init=9)
    assert read_driver() is None
    assert gpu_count() == 0


@pytest.mark.parametrize(
    ("driver", "cuda", "sentence"),
    [
        (None, 13, "needs an NVIDIA GPU with its driver, and there is none: set "),
        (Driver("580.65.06", ()), 13, "needs an NVIDIA GPU with its driver, and there is none: set "),
        (
            Driver("550.54.14", ((9, 0),)),
            13,
            "driver 580 or newer for CUDA 13, and this machine has 550.54.14",
        ),
        (Driver("470.82", ((8, 0),)), 12, "driver 525 or newer for CUDA 12, and this machine has 470.82"),
        (
            Driver("580.65.06", ((7, 0),)),
            13,
            "compute capability 7.5 or newer, and this machine has 7.0",
        ),
    ],
)
def test_refusals(driver: Driver | None, cuda: int, sentence: str) -> None:
    """A missing or old driver and an old GPU are refused before the engine starts."""
    assert sentence in (driver_refusal(driver, cuda) or "")


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [
        (Driver("580.65.06", ((7, 5),)), 13),
        (Driver("550.54.14", ((9, 0),)), 12),
        (Driver("600.1", ((7, 0), (10, 3))), 13),
        (Driver("550.54.14", ((9, 0),)), 0),
    ],
)
def test_machines_that_can(driver: Driver, cuda: int) -> None:
    """A new enough driver with at least one new enough GPU is accepted; nothing is guessed of an unknown CUDA."""
    assert driver_refusal(driver, cuda) is None
