"""The ``diff3r.*`` keys: where they are given and what they mean."""
