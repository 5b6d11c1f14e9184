"""The record of the eighth group."""

from groups.vignetting.chart import VignettingChart

from diff3r_plugin.groups import Group

VIGNETTING = Group("vignetting", "view", 1, rate=0.02, weight=0.01, optimized=False, images=VignettingChart())
