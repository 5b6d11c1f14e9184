"""The contract test where adapters that are packages of their own import it from."""

from diff3r_plugin.plugin.host.contract import AdapterContract, Example

__all__ = ["AdapterContract", "Example"]
