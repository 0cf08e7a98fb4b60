"""The accelerator that a rank feeds: emulated, or a CUDA GPU, behind one protocol.

`bench.device.base` is the protocol, `bench.device.select` opens the right device. Nothing
here knows of storage, readers or records; `torch` is imported in `bench.device.cuda` alone,
and only when a CUDA device is opened.
"""
