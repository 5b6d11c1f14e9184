"""What a backward mode is given, what it returns, and what every mode can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.camera_gradients import depends_on_cameras, images_with_camera_graph
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.info import BackwardRecord
from diff3r_plugin.objective import Objective
from diff3r_plugin.optimize import InnerSolution, InnerSolver
from diff3r_plugin.views import Views


@dataclass(frozen=True)
class InnerProblem:
    """The inner problem with the graph that its inputs came with.

    Args:
        coordinates: The map from θ to scenes.
        views: Context cameras without images, with the graph they came with.
        theta0: The prediction in coordinates, ``[B, P]``.
        proximal_weights: Λ, ``[B, P]``.
        images: Context images, ``[B, V, 3, H, W]``.
        pixel_weights: w, ``[B, V, H, W]``.
        backend: Render backend.
    """

    coordinates: Coordinates
    views: Views
    theta0: Float[Tensor, "B P"]
    proximal_weights: Float[Tensor, "B P"]
    images: Float[Tensor, "B V 3 H W"]
    pixel_weights: Float[Tensor, "B V H W"]
    backend: str

    def objective(self) -> Objective:
        """E as a differentiable function of its inputs but the cameras."""
        views = self.views.detach().replace(images=self.images)
        return Objective(self.coordinates, views, self.theta0, self.proximal_weights, self.pixel_weights, self.backend)

    def detached(self) -> InnerProblem:
        """The same numbers without a graph."""
        return InnerProblem(
            self.coordinates,
            self.views.detach(),
            self.theta0.detach(),
            self.proximal_weights.detach(),
            self.images.detach(),
            self.pixel_weights.detach(),
            self.backend,
        )

    def images_at(self, theta: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        """The images, with the graph by which the cameras reach a solution at ``theta`` where they have one."""
        if not depends_on_cameras(self.views):
            return self.images
        theta, views = theta.detach(), self.views.detach()
        refined = self.coordinates.decode_cameras(theta, views).world_to_camera
        scene = self.coordinates.decode(theta)
        slope = partial(self.coordinates.slope_of_images, theta)
        return images_with_camera_graph(self.images, scene, refined, self.views, self.backend, slope)


@dataclass(frozen=True)
class Solved:
    """The solution with the graph that the mode gives it.

    Args:
        theta: θ*, ``[B, P]``.
        solution: What the inner solver reports.
        record: Filled when the backward runs.
    """

    theta: Float[Tensor, "B P"]
    solution: InnerSolution
    record: BackwardRecord = field(default_factory=BackwardRecord)


class BackwardMode(Protocol):
    """Solves an inner problem such that gradients pass through the solution in one particular way."""

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """θ* as a differentiable function of the problem's inputs.

        Raises:
            ValueError: if the problem's backend or the solver cannot do what the mode needs.
        """
        ...
