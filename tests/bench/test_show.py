"""Tables for people hold what models say, letter for letter, and every digit of their numbers."""

from rich.console import Console

from easyedit_rep.bench import show
from easyedit_rep.bench.compare import COLUMNS
from easyedit_rep.evaluation.metrics import PRINTED
from easyedit_rep.request import EditRequest


def test_what_a_model_says_in_brackets_is_no_markup(editor, monkeypatch):
    monkeypatch.setattr(show, "_answers", lambda _editor, texts, _target: ["[/INST] [b]"] * len(texts))
    request = EditRequest("Ann Lee [/x] plays the", "Ann Lee", "[red]")
    console = Console(width=200, record=True)
    console.print(show.tell(editor(), request))
    text = console.export_text()
    assert "[/INST] [b]" in text and "Ann Lee [/x] plays the" in text and "[red]" in text


def test_no_number_of_a_wide_table_is_cut():
    rows = [
        {"method": method, **dict.fromkeys((*COLUMNS, "reversion", *PRINTED), 100.0), "seconds_per_edit": 12.3456}
        for method in ("R-ROME", "R-ROME+REP")
    ]
    console = Console(width=80, record=True)
    show.print_whole(console, show.table(rows, "tiny"))
    text = console.export_text()
    assert "…" not in text and text.count("100.0") == 2 * (len(COLUMNS) + 1 + len(PRINTED)) and text.count("12.35") == 2
