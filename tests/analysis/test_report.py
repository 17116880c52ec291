"""The page of a folder: it parses, needs nothing from outside, shows what there is, and shows text as text."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from easyedit_rep.analysis.registry import ANALYSES
from easyedit_rep.analysis.report import Section, gather, write_report
from easyedit_rep.bench.runs import OneProcess, execute
from easyedit_rep.cli import app
from easyedit_rep.errors import EditError

VOID = {"meta", "img", "br", "hr", "link", "input"}
POINT = {"kind": "rephrase", "domain": "id", "before": 0.5, "after": 0.9, "opened": True}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Page(HTMLParser):
    """Checks that elements close in order, and gathers what a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "srcset", "data", "poster") or (name == "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def journal(path, records, **about):
    path.parent.mkdir(parents=True, exist_ok=True)
    provenance = {"analysis": "keys", "layer": 1, "seed": 0, "data": {"file": "facts.json"}, "hparams": {"model_name": "a/tiny"}, **about}
    path.write_text("".join(json.dumps(line) + "\n" for line in [{"provenance": provenance}, *records]))


def keys_record(index=0, subject="Ann Lee"):
    return {"index": index, "subject": subject, "points": [POINT, {**POINT, "kind": "random", "domain": "", "before": 0.01}]}


def read(path):
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_a_page_needs_nothing_from_outside(tmp_path):
    journal(tmp_path / "deep" / "keys.jsonl", [keys_record()])
    (tmp_path / "mine.csv").write_text("what,much\na,1.5\n<b>,2\n")
    (tmp_path / "own_figure.png").write_bytes(PNG)
    sections = write_report(tmp_path, tmp_path / "page.html", "A <title>")
    assert [section.title for section in sections] == [ANALYSES["keys"].title, "mine", "own figure"]
    text, page = read(tmp_path / "page.html")
    assert all(url.startswith(("data:image/png;base64,", "#")) for url in page.fetched) and len(page.fetched) == 5
    assert "http" not in text and "url(" not in text and "@import" not in text and "<script" not in text
    assert {"A <title>", "<b>", "rephrase ID"} <= {word.strip() for word in page.words}


def test_a_figure_that_is_missing_is_drawn_from_the_records_and_one_that_is_there_is_used(tmp_path):
    journal(tmp_path / "keys.jsonl", [keys_record()])
    (section,) = gather(tmp_path)
    assert section.picture.startswith(b"\x89PNG") and len(section.picture) > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.jsonl"]
    (tmp_path / "keys.png").write_bytes(PNG)
    (section,) = gather(tmp_path)
    assert section.picture == PNG
    assert section.source == "tiny, facts.json, 1 fact, layer 1, seed 0"


def test_refused_facts_are_counted_and_a_folder_of_them_is_no_error(tmp_path):
    refused = {"index": 1, "subject": "Paris", "error": "no"}
    journal(tmp_path / "keys.jsonl", [keys_record(), refused])
    (section,) = gather(tmp_path)
    assert "1 fact and 1 refused" in section.source
    journal(tmp_path / "keys.jsonl", [refused])
    (section,) = gather(tmp_path)
    assert section.text == "No fact has been measured yet." and not section.picture


def test_benchmarks_become_tables(study, run, tmp_path):
    for folder, name in (("bench", None), ("edit", "records"), ("other", None)):
        execute(run, tmp_path / folder, OneProcess(lambda run: study.editor), progress=False, name=name)
    with (tmp_path / "edit" / "records.jsonl").open("a") as file:
        file.write('{"index": 1, "meth')  # killed
    bench, edit, again = gather(tmp_path)
    assert again.title == "Methods compared: other", "and no more seeds of the first"
    for section, name in ((bench, "bench"), (edit, "edit")):
        assert section.title == f"Methods compared: {name}" and [row[2] for row in section.rows] == ["ROME", "ROME+REP", "gain over ROME"]


def test_what_cannot_be_pooled_or_is_of_an_older_version_is_said(study, run, tmp_path):
    for seed in (3, 4):
        execute(replace(run, seed=seed, n=seed - 2), tmp_path / "bench", OneProcess(lambda run: study.editor), progress=False)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "records.jsonl").write_text('{"index": 0, "method": "ROME"}\n')
    bench, old = gather(tmp_path)
    assert "so they are no seeds of one run" in bench.text and bench.table is None
    assert old.text.startswith("Records of an older version") and old.source == "old/records.jsonl"


def test_a_sequence_has_its_norms_beside_its_table(tmp_path):
    edits = [
        {
            "edit": i,
            "seconds": 0.1,
            "norms": {"1": {"weight": 1 + 0.01 * i, "original": 1.0}},
            "probability": [0.1 * i],
            "info": {"1": [{"probability": 0.9}]},
        }
        for i in (1, 2)
    ]
    after = {"after": 2, "rows": [{"efficacy": [1.0]}, {"efficacy": [0.0]}], "perplexity": 9.5, "norms": edits[-1]["norms"]}
    hparams = {"model_name": "a/tiny", "rep": {"base": "D4S", "pathways": False}}
    journal(tmp_path / "sequence.jsonl", [*edits, after], hparams=hparams)
    line = (tmp_path / "sequence.jsonl").read_text().replace('"analysis": "keys", ', "")
    (tmp_path / "sequence.jsonl").write_text(line)
    table, blocks, norms = gather(tmp_path)
    assert table.title == "Sequences of edits" and table.rows[0][:3] == ["D4S", "2", "50.0"]
    assert blocks.rows[0][:2] == ["D4S", "1 to 2"]
    assert norms.table["mean |w|, growth % at the end"].tolist() == ["1.00", "2.00"] and norms.picture.startswith(PNG[:8])


def test_columns_of_numbers_are_told_from_words():
    import pandas

    section = Section(
        "", table=pandas.DataFrame({"a": ["1", "2"], "b": ["0.5 ± 0.1", "–"], "c": ["3 / 4", "word"], "d": ["-1 → 2", "1e-05"]})
    )
    assert section.numbers == {1, 3}, "the first column names the row"


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(EditError, match="holds no records"):
        write_report(tmp_path, tmp_path / "page.html")
    with pytest.raises(EditError, match="is not a folder"):
        write_report(tmp_path / "missing", tmp_path / "page.html")
    for damaged in ("{", "5\n"):
        (tmp_path / "half.jsonl").write_text(damaged)
        with pytest.raises(EditError, match=r"half\.jsonl is not a file of records"):
            write_report(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_the_page_into_the_folder(tmp_path):
    journal(tmp_path / "keys.jsonl", [keys_record()])
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "1 section," in result.output and (tmp_path / "report.html").exists()
