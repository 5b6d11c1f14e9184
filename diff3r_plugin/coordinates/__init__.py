"""The unknowns θ of the inner problem and what they mean.

* ``coordinates``: `Coordinates`, θ to scenes and back around a reference
* ``local``: `LocalCoordinates`, the derivative of that at one θ
* ``covariance``, ``cholesky``, ``scale_rotation``: the charts of a Gaussian's shape
* ``poses``, ``exposure``: the charts of a camera's pose, and of what it does to colors
"""

from diff3r_plugin.coordinates.coordinates import LARGEST_LOGIT, Coordinates
from diff3r_plugin.coordinates.local import LocalCoordinates

__all__ = ["LARGEST_LOGIT", "Coordinates", "LocalCoordinates"]
