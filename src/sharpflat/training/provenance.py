"""Where and with what a run was made."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("sharpflat", "torch", "numpy")


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and numerical settings of this process."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "accelerator": (torch.cuda.get_device_name(device) if device.type == "cuda" else None),
        },
        "device": device.type,
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.fp32_precision == "tf32",  # type: ignore[attr-defined]
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def data_origin(data: Path) -> dict[str, Any]:
    """Where a canonical file came from, as was noted beside it; empty if nothing was.

    ``variant`` says in what the arrays differ from the published ones.
    """
    noted = data.with_suffix(".provenance.json")
    if not noted.exists():
        return {}
    found = json.loads(noted.read_text())
    return {key: found[key] for key in ("source", "origin", "variant")}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from the source tree, not installed
            found[package] = "source tree"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
