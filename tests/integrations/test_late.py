"""A module that follows another package: imported right after it, however that is imported, and never without it."""

import importlib
import sys
from importlib.util import find_spec

import pytest

from easyedit_rep.integrations.late import when_imported


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A package `leader` with a submodule, one that is broken, and a module `follower`."""
    for name, text in {"leader": "done = True", "broken": "1 / 0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "leader" / "inner.py").write_text("")
    (tmp_path / "follower.py").write_text("import leader\nseen = leader.done")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield
    for name in ("leader", "leader.inner", "broken", "follower"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["leader", "leader.inner", "follower"])
def test_it_follows(packages, name):
    before = list(sys.meta_path)
    for _ in range(2):
        when_imported("leader", "follower")
    assert len(sys.meta_path) == len(before) + 1
    assert find_spec("leader") is not None, "looking is not importing"
    assert "follower" not in sys.modules
    importlib.import_module(name)
    assert sys.modules["follower"].seen
    assert sys.meta_path == before, "nobody watches any more"


def test_a_missing_package_stays_missing(packages):
    when_imported("absent_package", "follower")
    assert find_spec("absent_package") is None
    with pytest.raises(ModuleNotFoundError, match="No module named 'absent_package'"):
        importlib.import_module("absent_package")
    assert "follower" not in sys.modules


def test_a_broken_package_says_so_each_time(packages):
    when_imported("broken", "follower")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("broken")
    assert "follower" not in sys.modules
