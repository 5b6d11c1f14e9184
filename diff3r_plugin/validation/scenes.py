"""Gaussians before their activations, as checkpoints and PLY files hold them."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.validation.finding import Finding, beyond, finite_range, place

ROUNDING = 1e-3
ASYMMETRY = 1e-2
"""Of the larger of two mirrored entries; half precision rounds each to a thousandth."""


def gaussian_findings(gaussians: Gaussians) -> list[Finding]:
    """Of the scenes of a call."""
    opacities = gaussians.opacities.detach()
    findings = [Finding(beyond(opacities, -ROUNDING, 1 + ROUNDING), lambda: _opacities(opacities))]
    if gaussians.scales is not None:
        scales = gaussians.scales.detach()
        findings.append(Finding(beyond(scales, 0, torch.inf), lambda: _scales(scales)))
    if gaussians.covariances is not None:
        covariances = gaussians.covariances.detach()
        findings.append(Finding(_asymmetric(covariances).any(), lambda: _asymmetry(covariances)))
    return findings


def _opacities(opacities: Tensor) -> str | None:
    spread = finite_range(opacities)
    if spread is None or (spread[0] >= -ROUNDING and spread[1] <= 1 + ROUNDING):
        return None
    bad = opacities.isfinite() & ((opacities < -ROUNDING) | (opacities > 1 + ROUNDING))
    return (
        f"opacities must lie in [0, 1], got [{spread[0]:.3g}, {spread[1]:.3g}], the first in "
        f"{place(bad, 'scene', 'Gaussian')}. Logits, as 3DGS checkpoints and PLY files hold them, become opacities by "
        "opacities.sigmoid(); values up to 255 by opacities / 255."
    )


def _scales(scales: Tensor) -> str | None:
    spread = finite_range(scales)
    if spread is None or spread[0] >= 0:
        return None
    return (
        f"scales are standard deviations in world units and must not be negative, got [{spread[0]:.3g}, "
        f"{spread[1]:.3g}], the first in {place(scales < 0, 'scene', 'Gaussian')}. Logarithms, as 3DGS checkpoints and "
        "PLY files hold them, become scales by scales.exp()."
    )


def _asymmetric(covariances: Tensor) -> Tensor:
    """Gaussians ``[B, N]`` with a covariance that differs from its transpose; NaN is not for this check to judge."""
    upper = torch.stack([covariances[..., i, j] for i, j in ((0, 1), (0, 2), (1, 2))])
    lower = torch.stack([covariances[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2))])
    diagonal = covariances.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    # Rounding of the entries goes with the diagonal, not with the difference's own size.
    return ((upper - lower).abs() > ASYMMETRY * diagonal).any(0)


def _asymmetry(covariances: Tensor) -> str | None:
    finite = covariances.isfinite().all(-1).all(-1)
    bad = _asymmetric(covariances) & finite
    if not bad.any():
        return None
    rows = "; ".join(", ".join(f"{value:.3g}" for value in row) for row in covariances[bad][0].tolist())
    return (
        f"covariances must be symmetric, got [{rows}] in {place(bad, 'scene', 'Gaussian')}. A Cholesky factor L or "
        "R diag(scales) becomes a covariance by factor @ factor.mT; one triangle has to be mirrored."
    )
