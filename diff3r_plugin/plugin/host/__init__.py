"""What the plugin knows of a host: adapters, their registry, a host's source, and the values that hold for a run."""
