"""A stand-in for the rasterizer packages that feed-forward splatting hosts import, on this package's renderer.

``SITE`` is a folder to put on ``sys.path``: it holds a package named ``diff_gaussian_rasterization``.
"""

from pathlib import Path

SITE = Path(__file__).parent / "site"
"""Folder that holds the importable stand-in packages."""
