"""Patches can be listed and undone."""

from diff3r_plugin.plugin.attaching.patching import Patch, Patches, around


class Base:
    def greet(self):
        return "base"


class Host(Base):
    def step(self):
        return "step"


def test_apply_list_and_revert():
    patches = Patches()
    before = dict(vars(Host))
    loud = around(lambda original, self: original(self).upper())
    patches.apply(Patch(Host, "step", loud, "shouts"))
    patches.apply(Patch(Host, "greet", loud, "shouts an inherited method"))
    patches.apply(Patch(Host, "absent", around(lambda original, self: (original(self), 1)), "adds one"))
    host = Host()
    assert (host.step(), host.greet(), host.absent()) == ("STEP", "BASE", (None, 1))
    assert [str(patch).split(": ")[1] for patch in patches] == ["shouts", "shouts an inherited method", "adds one"]
    patches.revert()
    assert dict(vars(Host)) == before and Host().greet() == "base" and list(patches) == []


def test_patches_of_one_attribute_are_undone_in_order():
    patches, original = Patches(), Host.step
    for mark in "ab":
        patches.apply(Patch(Host, "step", around(lambda old, self, mark=mark: old(self) + mark), mark))
    assert Host().step() == "stepab"
    patches.revert()
    assert Host.step is original
