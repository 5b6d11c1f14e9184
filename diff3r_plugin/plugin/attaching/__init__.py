"""How the plugin gets into a host's process: its listed, reversible changes, and the loops that run a model."""
