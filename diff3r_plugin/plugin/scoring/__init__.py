"""A host's validation and test: scores before and after, artifacts, and what is reported."""
