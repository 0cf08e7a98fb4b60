"""The conformance suite, run on every device there is."""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict

import pytest
from device_conformance import DeviceConformance, Host
from fake_torch_cuda import FakeTorch

from bench.device.base import Device
from bench.device.cuda import CudaDevice
from bench.device.emulated import EmulatedDevice


class TestEmulated(DeviceConformance):
    window_bytes = 64 * 2**20

    def open(self) -> Device:
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        return EmulatedDevice(
            "h100",
            window_bytes=self.window_bytes,
            sink=lambda piece, view: self.received[piece].extend(view),
        )

    def arrived(self, device: Device, host: Host, step: int) -> bytes:
        return b"".join(bytes(self.received[p]) for p in host.batches[step])


class TestEmulatedWithASmallWindow(TestEmulated):
    window_bytes = 1000  # smaller than a piece: every piece wraps around


class TestCudaOnTheStandIn(DeviceConformance):
    tolerance_ns = 2_000_000  # anchors are set by a busy interpreter here, not by a GPU

    def open(self) -> Device:
        self.torch = FakeTorch()
        return CudaDevice(0, torch=self.torch)

    def arrived(self, device: Device, host: Host, step: int) -> bytes:
        assert isinstance(device, CudaDevice)
        num_bytes = sum(len(host.sent[p]) for p in host.batches[step])
        return bytes(device._buffers[step % 2].data[:num_bytes])

    def after(self, device: Device) -> None:
        assert self.torch.gpu.hazards == []
        assert self.torch.pinned == {}


def _why_no_gpu() -> str:
    where = "in CI, where no GPU can be had" if os.environ.get("CI") else "on this machine"
    if importlib.util.find_spec("torch") is None:
        return f"NOT TESTED ON A GPU {where}: torch is not installed (pip install 'bench[gpu]')"
    import torch

    return "" if torch.cuda.is_available() else f"NOT TESTED ON A GPU {where}: torch finds none"


@pytest.mark.gpu
class TestCuda(DeviceConformance):
    tolerance_ns = 100_000

    @pytest.fixture(autouse=True)
    def _needs_a_gpu(self) -> None:
        if reason := _why_no_gpu():
            pytest.skip(reason)

    def open(self) -> Device:
        return CudaDevice(0)

    def arrived(self, device: Device, host: Host, step: int) -> bytes:
        assert isinstance(device, CudaDevice)
        num_bytes = sum(len(host.sent[p]) for p in host.batches[step])
        return bytes(device._buffers[step % 2][:num_bytes].cpu().numpy())
