"""The packages of the distribution; everything else stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

# "namespace", since the drop-in rasterizer lies in a folder that is a path entry and not a package
found = find_namespace_packages(include=["diff3r_plugin*", "diff3r_startup*"], exclude=["*__pycache__*"])
setup(packages=[*found, "diff3r_adapters"], package_dir={"diff3r_adapters": "adapters"})
