"""The documents that people write and the plan made of them: frozen values, strictly parsed.

`bench.spec.load` reads documents, `bench.spec.overrides` applies `--set` options,
`bench.spec.plan` is the agent's input. Nothing here touches storage or a device.
"""
