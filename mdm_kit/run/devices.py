"""Which device the arithmetic runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(wanted: str) -> torch.device:
    """Return the torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes the first CUDA card, else the CPU. Raises `UsageError` for a name that is none of
    these and for a device this machine or this build of torch does not have.
    """
    import torch

    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {wanted!r} is not known: expected auto, cpu, cuda, cuda:N or mps")
    have = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= have:
        raise UsageError(
            f"device {wanted!r} is not there: torch {torch.__version__} sees {have} "
            f"{device.type} device(s) on this machine; --device cpu always works"
        )
    return device
