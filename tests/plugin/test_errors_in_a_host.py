"""What the layer or the head refuses inside a host's step ends the run with one line, before anything is trained."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import host_stubs as stub
import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin import NO_CALL, PluginError, session
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.proximal import ProximalWeights


def too_few_scenes(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.gaussians
    adapter.gaussians = lambda output, scenes, call: right(output, scenes).map(lambda t: t[:1])


def other_resolution(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.context_images
    adapter.context_images = lambda context: right(context)[..., ::2, :]


def images_of_one_view(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.context_images
    adapter.context_images = lambda context: right(context)[:, :1]


def no_images(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.context_views
    adapter.context_views = lambda *a: dataclasses.replace(right(*a), images=None)


def quaternions_missing(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.gaussians

    def gaussians(output, scenes, call=NO_CALL):
        scene = right(output, scenes)
        return dataclasses.replace(scene, covariances=None, scales=torch.ones_like(scene.means))

    adapter.gaussians = gaussians


def weights_that_are_none(attachment):
    attachment.refiner.weights = lambda *call: ProximalWeights.of(-1.0)


def changing_views(change):
    """An adapter whose context views are changed by ``change(views)``."""

    def trouble(attachment):
        adapter, right = attachment.context.adapter, attachment.context.adapter.context_views
        adapter.context_views = lambda *a: change(right(*a))

    return trouble


def rows_times(name, *factors):
    return changing_views(lambda v: v.replace(**{name: getattr(v, name) * torch.tensor(factors)[:, None]}))


def normalized_intrinsics(attachment):
    rows_times("intrinsics", 1 / stub.W, 1 / stub.H, 1.0)(attachment)


def opengl_axes(attachment):
    rows_times("world_to_camera", 1.0, -1.0, -1.0, 1.0)(attachment)


def images_of_255(attachment):
    changing_views(lambda v: v.replace(images=v.images * 255))(attachment)


def scaled_pose(attachment):
    changing_views(lambda v: v.replace(world_to_camera=2 * v.world_to_camera))(attachment)


def logit_opacities(attachment):
    adapter, right = attachment.context.adapter, attachment.context.adapter.gaussians
    adapter.gaussians = lambda *a: dataclasses.replace(right(*a), opacities=right(*a).opacities.logit())


TROUBLE = {
    normalized_intrinsics: "intrinsics must be in pixels.*multiply the first row by 8 and the second by 6",
    opengl_axes: "No Gaussian is in front of any camera.*OpenGL",
    images_of_255: r"Images must lie in \[0, 1\].*image / 255",
    scaled_pose: "last row of world_to_camera",
    logit_opacities: r"opacities must lie in \[0, 1\].*sigmoid",
    too_few_scenes: "Gaussians hold 1 scenes but Views 2",
    other_resolution: "got 96",
    images_of_one_view: r"images must have shape \[2, 2, 3, H, W\], got \[2, 1, 3, 6, 8\]",
    no_images: "gave no images",
    quaternions_missing: "quats",
    weights_that_are_none: "must be positive and finite",
}


def train(folder: Path, trouble, said: list[str] | None = None) -> None:
    """One training step with a broken adapter, which leaves the parameters as they were."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, folder, said=said):
        model = wrapper_class()
        trouble(attachment_of(model))
        start = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            stub_host.make_trainer(lightning.pytorch, folder, max_steps=2).fit(model, stub_host.loader(2))
        finally:
            assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda t: t.__name__)
def test_what_an_adapter_gets_wrong_names_the_adapter(tmp_path, trouble):
    with pytest.raises(PluginError, match=f"adapter 'stub'.*{TROUBLE[trouble]}"):
        train(tmp_path, trouble)


def test_a_prediction_that_nobody_sees_later_on_does_not_end_the_training(tmp_path):
    """In the first call it is a matter of conventions; in a later one of the network."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        adapter, right = attachment_of(model).context.adapter, attachment_of(model).context.adapter.gaussians

        def gaussians(output, scenes, call=NO_CALL):
            scene = right(output, scenes)
            return scene if model.global_step == 0 else dataclasses.replace(scene, means=scene.means - 100)

        adapter.gaussians = gaussians
        adapter.along_rays = False
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, max_steps=3)
        trainer.fit(model, stub_host.loader(3))
    assert trainer.global_step == 3


class ReorderingEncoder(stub_host.StubEncoder):
    """As many Gaussians as the host has, in another order: columns before rows."""

    def forward(self, *arguments):
        scene = super().forward(*arguments)

        def turned(value):
            return value.unflatten(1, (stub.V, stub.H, stub.W)).transpose(2, 3).flatten(1, 3)

        return stub.HostGaussians(**{name: turned(value) for name, value in vars(scene).items()})


def test_gaussians_in_another_order_are_found_out_where_the_order_matters(tmp_path):
    def fit(**settings):
        wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule, ReorderingEncoder)
        with stub_host.plugged_in(wrapper_class, tmp_path, **settings):
            trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, max_steps=1)
            trainer.fit(wrapper_class(), stub_host.loader(1))

    with pytest.raises(PluginError, match=r"do not lie on the rays through their pixels.*diff3r\.head=fixed works"):
        fit()
    fit(head="fixed")


class AnotherHostsEncoder(stub_host.StubEncoder):
    """PF3plat: MVSplat's files and signatures, but its encoder returns a tuple."""

    def forward(self, *arguments):
        return super().forward(*arguments), None


def test_another_hosts_answer_is_told_apart(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule, AnotherHostsEncoder)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        with pytest.raises(PluginError) as caught:
            wrapper_class().training_step(stub_host.batch(), 0)
    assert re.search(
        r"adapter 'stub' cannot read what this host's encoder returned, a tuple of HostGaussians, NoneType: "
        r"AttributeError: .*pixelsplat_family\.py:\d+.*diff3r adapters new",
        str(caught.value),
    )


def test_the_process_ends_with_one_line(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(session, "begin", lambda config, start: SimpleNamespace(errors=[]))

    def main(config):
        train(tmp_path, images_of_one_view, said)

    with pytest.raises(SystemExit) as caught:
        session.run(main, {})
    (line,) = said
    assert line.startswith("error: what adapter 'stub' makes of this host cannot be refined: images must have shape")
    assert caught.value.code == 1, "the line has been printed already"
