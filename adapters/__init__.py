"""Adapters: one short file per host; registered under the entry-point group ``diff3r``."""
