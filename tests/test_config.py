"""YAML to dataclasses, strictly."""

from dataclasses import dataclass, field

import pytest

from easyedit_rep.config import build, read_yaml
from easyedit_rep.errors import EditError


@dataclass
class Inner:
    rate: float = 0.5
    flag: bool = False


@dataclass
class Outer:
    count: int
    name: str | None = None
    device: int | str = 0
    layers: list[int] = field(default_factory=list)
    pairs: list[list[int]] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    named: dict[str, Inner] = field(default_factory=dict)

    def __post_init__(self):
        if self.count < 0:
            raise EditError(f"count: {self.count} is negative")


def test_builds_nested_values():
    data = {"count": 3, "name": "x", "device": "cpu", "layers": [1, 2], "pairs": [[5, 10], []], "inner": {"rate": 2, "flag": True}}
    assert build(Outer, data, "f") == Outer(3, "x", "cpu", [1, 2], [[5, 10], []], Inner(2.0, True))
    assert build(Outer, {"count": 3, "named": {"a": {"rate": 1}}}, "f").named == {"a": Inner(1.0)}
    assert build(Outer, {"count": 3, "name": None, "inner": None}, "f") == Outer(3)


@pytest.mark.parametrize(("value", "number"), [("1e-3", 1e-3), ("5E4", 5e4), (2, 2.0), (0.25, 0.25)])
def test_floats_as_yaml_reads_them(value, number):
    rate = build(Inner, {"rate": value}, "f").rate
    assert rate == number
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"count": 1, "nmae": "x"}, "f.yaml: unknown key 'nmae', did you mean name?"),
        ({"count": 1, "zzz": 1}, "f.yaml: unknown key 'zzz', known: count, name, device, layers, pairs, inner, named"),
        ({"count": 1, 5: 1}, "f.yaml: unknown key 5,"),
        ({}, "f.yaml: missing count"),
        ({"count": "3"}, "f.yaml: count must be int, not '3'"),
        ({"count": True}, "f.yaml: count must be int, not True"),
        ({"count": 1.0}, "f.yaml: count must be int, not 1.0"),
        ({"count": None}, "f.yaml: count must be int, not None"),
        ({"count": -1}, "f.yaml: count: -1 is negative"),
        ({"count": 1, "named": {"a": {"rat": 1}}}, "f.yaml: named.a: unknown key 'rat'"),
        ({"count": 1, "named": [1]}, "f.yaml: named must be a mapping, not [1]"),
        ({"count": 1, "name": 5}, "f.yaml: name must be str or null, not 5"),
        ({"count": 1, "device": [0]}, "f.yaml: device must be int or str, not [0]"),
        ({"count": 1, "device": True}, "f.yaml: device must be int or str, not True"),
        ({"count": 1, "layers": 5}, "f.yaml: layers must be a list, not 5"),
        ({"count": 1, "layers": ["5"]}, "f.yaml: layers must be int, not '5'"),
        ({"count": 1, "layers": [True]}, "f.yaml: layers must be int, not True"),
        ({"count": 1, "pairs": [5, 10]}, "f.yaml: pairs must be a list, not 5"),
        ({"count": 1, "inner": {"rate": "fast"}}, "rate must be float, not 'fast'"),
        ({"count": 1, "inner": {"rate": True}}, "rate must be float, not True"),
        ({"count": 1, "inner": {"rate": None}}, "rate must be float, not None"),
        ({"count": 1, "inner": {"flag": 1}}, "flag must be bool, not 1"),
        ({"count": 1, "inner": {"flga": True}}, "unknown key 'flga', did you mean flag?"),
        ({"count": 1, "inner": 5}, "f.yaml: inner must be a mapping, not 5"),
        ({"count": 1, "inner": 0}, "f.yaml: inner must be a mapping, not 0"),
        ({"count": 1, "inner": []}, "f.yaml: inner must be a mapping, not []"),
        ([1], "f.yaml must be a mapping, not [1]"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_file_and_key(data, said):
    with pytest.raises(EditError) as error:
        build(Outer, data, "f.yaml")
    message = str(error.value)
    assert said in message
    assert message.startswith("f.yaml")
    assert "\n" not in message
    if isinstance(data, dict) and isinstance(data.get("inner"), dict):
        assert "inner" in message, "the block is named too"


def test_read_yaml(tmp_path):
    (tmp_path / "gpt-j.6B.yaml").write_text("a: 1")
    assert read_yaml(tmp_path / "gpt-j.6B.yaml") == read_yaml(str(tmp_path / "gpt-j.6B")) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "cannot read"), ("- 1", "holds no mapping"), ("", "holds no mapping"), (None, "cannot read")]
)
def test_unreadable_yaml_is_one_line(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EditError) as error:
        read_yaml(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
