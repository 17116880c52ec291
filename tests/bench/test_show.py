"""Tables for people hold what models say, letter for letter."""

from rich.console import Console

from easyedit_rep.bench import show
from easyedit_rep.request import EditRequest


def test_what_a_model_says_in_brackets_is_no_markup(editor, monkeypatch):
    monkeypatch.setattr(show, "_answers", lambda _editor, texts, _target: ["[/INST] [b]"] * len(texts))
    request = EditRequest("Ann Lee [/x] plays the", "Ann Lee", "[red]")
    console = Console(width=200, record=True)
    console.print(show.tell(editor(), request))
    text = console.export_text()
    assert "[/INST] [b]" in text and "Ann Lee [/x] plays the" in text and "[red]" in text
