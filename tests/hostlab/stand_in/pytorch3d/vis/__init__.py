"""Holds `plotly_vis`."""
