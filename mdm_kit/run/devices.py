"""Which device the arithmetic runs on."""

from __future__ import annotations

from pathlib import Path

from mdm_kit.errors import UsageError

_NVIDIA_NODES = ("/dev/nvidiactl", "/dev/dxg")
"""What the CUDA driver offers on Linux and on WSL; without them torch need not be asked."""


def pick_device(wanted: str) -> str:
    """Return the torch name of the device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes the first CUDA card, else the CPU. Raises `UsageError` for a name that is none of
    these and for a device this machine or this build of torch does not have.
    """
    if wanted == "cpu" or (wanted == "auto" and not any(Path(n).exists() for n in _NVIDIA_NODES)):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "mps"):
        raise UsageError(f"device {wanted!r} is not known: expected auto, cpu, cuda, cuda:N or mps")
    have = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= have:
        raise UsageError(
            f"device {wanted!r} is not there: torch {torch.__version__} sees {have} "
            f"{device.type} device(s) on this machine; --device cpu always works"
        )
    return str(device)
