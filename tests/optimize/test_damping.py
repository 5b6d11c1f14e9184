"""The damping of Gauss-Newton steps follows how well they were predicted (Nielsen 1999)."""

from types import SimpleNamespace

import pytest
import torch

from diff3r_plugin import GaussNewton
from diff3r_plugin.objective import ThetaGram
from diff3r_plugin.optimize.gauss_newton import GRAM_STEPS


class Scripted:
    """One unknown, H = 1 and diag H = 2 as the solver is told; the energies are given, whatever the step.

    With damping μ a step is δ = -1 / (1 + 2μ), and the energy predicted to fall by half of that.
    """

    def __init__(self, *energies):
        self.energies, self.grams = iter(energies), 0

    def linearize(self, theta):
        energy = torch.tensor(next(self.energies))
        self.scenes = len(energy)
        self.proximal_weights = torch.ones(self.scenes, 1)
        return SimpleNamespace(
            theta=theta,
            energy=energy,
            gradient=torch.ones(len(energy), 1),
            system=lambda kind, diagonal, gram: (lambda v: v * diagonal, None),
            gram_for=self._gram,
        )

    def _gram(self, kind):
        self.grams += 1
        return ThetaGram(torch.ones(self.scenes, 1), None)


def run(objective, steps, active=(True,)):
    """The states of a run, the first one before any step."""
    solver = GaussNewton(steps=steps)
    states = [solver.start(objective.linearize(torch.zeros(len(active), 1)))]
    for _ in range(steps):
        states.append(solver.step(objective, states[-1], torch.tensor(active)))
    return states


def damping(states, scene=0):
    return [state.damping[scene].item() for state in states]


def test_failures_double_the_growth_and_a_success_starts_it_anew():
    as_predicted = 1 - 0.5 / (1 + 2 * 8)
    states = run(Scripted([1.0], [2.0], [2.0], [as_predicted], [2.0]), 4)
    assert damping(states) == pytest.approx([1, 2, 8, 8 / 3, 16 / 3])
    assert [s.accepted_steps.item() for s in states] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("gain", "factor"), [(1.0, 1 / 3), (3.0, 1 / 3), (0.5, 1.0), (0.25, 1.125), (0.8, 0.784)])
def test_a_success_shrinks_it_by_how_well_it_was_predicted(gain, factor):
    states = run(Scripted([1.0], [1 - gain / 6]), 1)
    assert damping(states)[-1] == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize("energy", [1.0, 2.0, float("inf"), float("nan")])
def test_a_step_that_does_not_lower_the_energy_is_not_made(energy):
    start, after = run(Scripted([1.0], [energy]), 1)
    assert after.accepted_steps == 0 and after.best_energy == 1 and torch.equal(after.best, start.best)


def test_a_finished_scene_is_left_alone():
    states = run(Scripted([1.0, 1.0], [2.0, 0.5]), 1, active=(True, False))
    assert damping(states, 1) == [1, 1] and states[-1].growth[1] == 2
    assert states[-1].best[1] == 0 and states[-1].accepted_steps[1] == 0


def test_gram_matrices_are_made_once_in_so_many_steps():
    objective = Scripted([1.0], *[[2.0]] * (GRAM_STEPS + 1))
    run(objective, GRAM_STEPS)
    assert objective.grams == 1
    objective = Scripted([1.0], *[[2.0]] * (GRAM_STEPS + 1))
    run(objective, GRAM_STEPS + 1)
    assert objective.grams == 2
