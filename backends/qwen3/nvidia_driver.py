"""NVIDIA's driver and its GPUs, without CUDA: nothing is imported and no GPU memory is taken."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_NVML = "libnvidia-ml.so.1"
"""NVIDIA's management library (NVML), part of its driver. Unlike CUDA, it answers without holding a GPU."""

_VERSION_BYTES = 80
"""NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE in nvml.h."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver, as NVML describes it."""

    version: str
    """The version, such as `580.65.06`."""
    capabilities: tuple[tuple[int, int], ...]
    """Compute capability of each GPU, as (major, minor)."""

    @property
    def branch(self) -> int:
        """The version's first number."""
        return int(self.version.partition(".")[0])


def read_driver() -> Driver | None:
    """The driver of this machine; None: it has none, or the driver does not answer. Any thread."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        version = ctypes.create_string_buffer(_VERSION_BYTES)
        count = ctypes.c_uint(0)
        if nvml.nvmlSystemGetDriverVersion(version, _VERSION_BYTES) != 0:
            return None
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return None
        return Driver(version.value.decode(), tuple(_capability(nvml, index) for index in range(count.value)))
    finally:
        nvml.nvmlShutdown()


def _capability(nvml: ctypes.CDLL, index: int) -> tuple[int, int]:
    device, major, minor = ctypes.c_void_p(), ctypes.c_int(0), ctypes.c_int(0)
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
        nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value
