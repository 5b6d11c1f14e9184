"""The contract for adapters lives in the package, where a third party's tests can import it."""

from diff3r_plugin.plugin.host.contract import AdapterContract, Example

__all__ = ["AdapterContract", "Example"]
