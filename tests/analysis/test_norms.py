"""Figures 5 and 6 of D4S from made-up journals."""

import pytest

from easyedit_rep.analysis.norms import draw, labels, points, table
from easyedit_rep.errors import EditError


def run(base="D4S", file="a.json", n=6, **more):
    about = {"hparams": {"rep": {"base": base, "pathways": False}}, "data": {"file": file}}
    records = [
        {
            "edit": i,
            "norms": {"1": {"weight": 1 + 0.01 * i, "original": 1.0}, "2": {"weight": 2 + 0.06 * i, "original": 2.0}},
            "probability": [0.1 * i, 0.1],
            "info": {"2": [{"loss": 0.1, "steps": 3, "probability": 0.9 - 0.1 * i}]},
            **more,
        }
        for i in range(1, n + 1)
    ]
    return about, [*records, {"after": n, "rows": []}]


def test_points():
    found = points([run()])
    assert found["growth"].tolist() == pytest.approx([2.0 * i for i in range(1, 7)])
    assert found["said"].tolist() == pytest.approx([0.05 * (i + 1) for i in range(1, 7)])
    assert found["wanted"].tolist() == pytest.approx([0.9 - 0.1 * i for i in range(1, 7)])


def test_runs_are_told_apart():
    runs = [run(), run("MEMIT"), run(file="b.json"), run(file="b.json")]
    assert labels(runs) == ["D4S, a.json", "MEMIT", "D4S, b.json (3)", "D4S, b.json (4)"]
    assert list(dict.fromkeys(points(runs)["run"])) == labels(runs)


def test_table_and_figure(tmp_path):
    found = points([run(n=10), run("MEMIT", n=3, info={"1": [{}]})])
    rows = table(found)
    assert rows["edits"].tolist() == ["1 to 3", "4 to 6", "7 to 9", "10 to 10", "1 to 1", "2 to 2", "3 to 3"]
    draw(found, tmp_path / "a.png")
    assert 10_000 < (tmp_path / "a.png").stat().st_size < 200_000


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(EditError, match="no edit yet"):
        points([run(n=0)])
    about, records = run()
    with pytest.raises(EditError, match="older version"):
        points([(about, [{k: v for k, v in records[0].items() if k != "probability"}])])
