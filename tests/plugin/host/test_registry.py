"""Which adapter a checkout gets, and what is said when it gets none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, PluginError, hookimpl
from diff3r_plugin.plugin.host import registry

MINI_HOST = Path(__file__).parents[3] / "examples" / "mini_host"


@pytest.fixture
def registered():
    """Registers adapter classes for one test."""
    plugins = []

    def register(*classes):
        plugin = SimpleNamespace(diff3r_adapters=hookimpl(lambda: list(classes)))
        plugins.append(plugin)
        registry.manager().register(plugin)

    yield register
    for plugin in plugins:
        registry.manager().unregister(plugin)


def adapter_class(adapter_name, *files):
    class Adapter(HostAdapter):
        name = adapter_name
        fingerprints = files
        encoder = context_views = gaussians = with_gaussians = target_images = render_targets = None

    Adapter.__abstractmethods__ = frozenset()
    return Adapter


def test_the_built_in_adapters_are_there():
    assert {"mini_host", "mvsplat", "pixelsplat", "noposplat", "depthsplat", "transplat"} <= set(registry.adapters())
    assert registry.FAILED == {}


@pytest.mark.parametrize("start", ["src/main.py", "src", "."])
def test_the_miniature_host_is_recognized(start):
    adapter, checkout = registry.choose("auto", MINI_HOST / start)
    assert adapter.name == "mini_host" and checkout.root == MINI_HOST.resolve()
    assert adapter.problems(checkout) == []


def test_an_unknown_checkout_lists_what_is_known_and_how_to_force_one(tmp_path):
    (tmp_path / "src").mkdir()
    with pytest.raises(PluginError, match=r"mini_host.*mvsplat.*diff3r\.adapter=NAME.*adapters new"):
        registry.choose("auto", tmp_path / "src")


def test_a_checkout_that_lacks_a_file_names_the_nearest_host_and_the_file(tmp_path):
    mvsplat = registry.adapters()["mvsplat"]
    for file in mvsplat.fingerprints[:-1]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(PluginError, match=rf"It is nearest to mvsplat \(but has no {mvsplat.fingerprints[-1]}\)\."):
        registry.choose("auto", tmp_path)
    with pytest.raises(PluginError) as caught:
        registry.choose("auto", MINI_HOST / "config" / "experiment" / "nowhere" / "else" / "at" / "all")
    assert "nearest" not in str(caught.value)


def test_a_relative_of_a_whole_family_is_said_to_be_one(tmp_path):
    for file in PixelSplatFamily.fingerprints:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(PluginError, match=r"hosts of one family share \(.*pixelsplat.*\).*derive from") as caught:
        registry.choose("auto", tmp_path)
    assert "but has no" not in str(caught.value)


def test_an_adapter_forced_from_a_script_in_a_folder_finds_its_checkout(registered, tmp_path):
    registered(adapter_class("other", "net.py", "tools/test.py"))
    (tmp_path / "tools").mkdir()
    for file in ("net.py", "tools/test.py"):
        (tmp_path / file).touch()
    assert registry.choose("other", tmp_path / "tools" / "test.py")[1].root == tmp_path.resolve()


def test_an_adapter_can_be_forced(tmp_path):
    (tmp_path / "src").mkdir()
    adapter, checkout = registry.choose("mvsplat", tmp_path / "src")
    assert adapter.name == "mvsplat" and checkout.root == tmp_path.resolve()


def test_an_unknown_adapter_name_names_the_nearest():
    with pytest.raises(PluginError, match=r"unknown adapter 'mvsplatt'. Did you mean 'mvsplat'"):
        registry.choose("mvsplatt", MINI_HOST)


def test_a_variant_with_the_files_of_its_host_is_told_from_it_by_its_marks(registered, tmp_path):
    host = adapter_class("host", "net.py")

    class Variant(host):
        name = "variant"
        marks = (Expectation("net.py", "Config", ("use_cluster",), "telling it from its host"),)

    registered(host, Variant)
    (tmp_path / "net.py").write_text("class Config:\n    width: int\n")
    assert registry.choose("auto", tmp_path)[0].name == "host"
    (tmp_path / "net.py").write_text("class Config:\n    width: int\n    use_cluster: bool\n")
    assert registry.choose("auto", tmp_path)[0].name == "variant"


def test_third_party_adapters_take_part(registered, tmp_path):
    registered(adapter_class("other", "net.py"))
    (tmp_path / "net.py").touch()
    assert registry.choose("auto", tmp_path)[0].name == "other"


def test_two_matches_ask_for_a_choice(registered, tmp_path):
    registered(adapter_class("first", "net.py"), adapter_class("second", "net.py"))
    (tmp_path / "net.py").touch()
    with pytest.raises(PluginError, match=r"first, second.*diff3r\.adapter=first"):
        registry.choose("auto", tmp_path)


@pytest.mark.parametrize("name", ["auto", "mvsplat"])
def test_a_folder_that_does_not_exist_is_said_not_to(tmp_path, name):
    with pytest.raises(PluginError, match=r"nowhere does not exist; give the folder"):
        registry.choose(name, tmp_path / "nowhere")


def test_two_adapters_of_one_name_are_refused(registered):
    registered(adapter_class("mvsplat", "net.py"))
    with pytest.raises(PluginError, match="two adapters are called 'mvsplat'"):
        registry.adapters()


@pytest.fixture
def fresh_manager():
    registry.manager.cache_clear()
    yield
    registry.manager.cache_clear()
    registry.FAILED.clear()


def test_the_environment_limits_what_is_loaded(fresh_manager, monkeypatch):
    monkeypatch.setenv(registry.LOAD_ONLY, "mini_host")
    assert list(registry.adapters()) == ["mini_host"]


def test_the_environment_may_not_name_what_is_not_there(fresh_manager, monkeypatch):
    monkeypatch.setenv(registry.LOAD_ONLY, "mini_hots")
    with pytest.raises(PluginError, match="Did you mean 'mini_host'"):
        registry.adapters()


def test_a_broken_plugin_does_not_stop_the_others(fresh_manager, monkeypatch):
    class Broken:
        name = "broken"

        def load(self):
            raise ImportError("no such thing")

    real = list(registry.entry_points(group="diff3r"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [*real, Broken()])
    with pytest.warns(UserWarning, match="'broken' could not be loaded"):
        assert "mini_host" in registry.adapters()
    assert "broken" in registry.FAILED
