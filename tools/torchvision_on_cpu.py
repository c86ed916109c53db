"""Let PyPI's torchvision be imported beside a CPU build of torch.

PyPI has torchvision built for CUDA only. Beside a CPU torch its compiled operators do not load, and importing it then
fails where it describes two of them to the tracer (`operator torchvision::nms does not exist`). vLLM imports it, by way
of transformers, and calls neither. So the two are declared, without a body, at the end of the module that looks for
the compiled ones. Does nothing where that was done; where the operators load, the declarations are skipped.
Run with the environment's own python.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

MARK = "# declared by tools/torchvision_on_cpu.py"
DECLARE = f"""
if not _has_ops():  {MARK}
    _declared = torch.library.Library("torchvision", "DEF")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def declare(module: Path) -> None:
    """Append the declarations to `module`, in a new file: uv links what it installs to its cache."""
    text = module.read_text(encoding="utf-8")
    if MARK in text:
        return
    new = module.with_suffix(".new")
    new.write_text(text + DECLARE, encoding="utf-8")
    new.replace(module)


if __name__ == "__main__":
    declare(Path(sysconfig.get_path("purelib")) / "torchvision" / "extension.py")
