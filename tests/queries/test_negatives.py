"""Other subjects and other forms: what gates are taught to stay shut and to open for."""

import random

from easyedit_rep import EditRequest
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.memory.tokens import Prompt
from easyedit_rep.queries.forms import subject_forms
from easyedit_rep.queries.negatives import (
    OrdinaryText,
    in_series,
    negative_prompts,
    other_subjects,
    prompts_after_fact,
    shuffled_prompts,
)

TEXT = OrdinaryText(("Ontario", "New York", "Buckingham Palace"), ("was built in the year of the flood and stands still",))
REQUEST = EditRequest("Toyota Cresta, produced by", "Toyota Cresta", "Fiat")


def test_names_are_capitalised_words_inside_sentences():
    text = OrdinaryText.from_corpus(load_corpus(["The river runs past Green Park to the sea, says Ann de Vries. Then it stops."]), 10, 0)
    assert text.names == ("Green Park", "Ann de Vries")
    assert all(len(snippet.split()) == 10 for snippet in text.snippets) and text.snippets


def test_text_without_names_gives_no_other_subjects():
    text = OrdinaryText.from_corpus(load_corpus(["it rains and rains and rains and rains and rains and rains and rains"]), 10, 0)
    assert text.names == ()
    assert negative_prompts(REQUEST, (), text, 20, 0) == []


def test_other_subjects_are_never_the_subject_and_often_close():
    rephrases = ("the sedan Toyota Cresta", "Toyota's Cresta")
    others = other_subjects("Toyota Cresta", rephrases, TEXT.names, 64, random.Random(0))
    assert len(set(others)) == len(others)
    assert "Toyota Cresta" not in others and not set(rephrases) & set(others)
    same = other_subjects("Otto Brandt", (), ("Brandt", "Otto"), 64, random.Random(0))
    assert same and not any("Otto Brandt" in other for other in same), "an apposition is the subject still"
    assert not any("Cresta" in other for other in others), "the last word alone is a form of the subject"
    assert any(other.startswith("Toyota ") for other in others)
    assert any(other.startswith("the sedan ") for other in others)


def test_others_of_a_series_are_others():
    others = other_subjects("Windows 98", ("Windows 95's heir",), ("Ontario",), 64, random.Random(0), series=True)
    series = [int(number) for other in others if (number := other.removeprefix("Windows ")).isdecimal()]
    assert len(series) > 8 and 98 not in series and {len(str(n)) for n in series} == {1, 2, 3}
    assert in_series("BMW E23", random.Random(1)).startswith("BMW E") and in_series("Guam", random.Random(0)) == "Guam"


def test_negative_prompts_are_fixed_by_seed_and_subject():
    first, again, other = (negative_prompts(REQUEST, (), TEXT, 40, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert {p.suffix for p in first} > {REQUEST.located.suffix}, "some stand in running text"
    assert all(p.subject != "Toyota Cresta" for p in first)


def test_shuffles_of_others_are_other_subjects_still(tok):
    others = [Prompt("", name, "") for name in ("Ann Lee", "Ann Lee", "Otto", "O", "Ann Smith")]
    found = shuffled_prompts(tok, REQUEST, (), others, 4, 0)
    assert len(found) == 2 and all(p.prefix == "" and p.suffix == REQUEST.located.suffix for p in found)
    assert [sorted(p.subject.replace(" ", "")) for p in found] == [sorted("AnnLee"), sorted("Otto")]
    assert not {p.subject for p in found} & {"Ann Lee", "Otto"}
    assert shuffled_prompts(tok, REQUEST, (found[0].subject.upper(),), others, 4, 0) == found[1:], "it is a name of its own"
    assert len(shuffled_prompts(tok, REQUEST, (), others, 5, 0)) == 3 and not shuffled_prompts(tok, REQUEST, (), others, 0, 0)


def test_forms_hold_part_of_the_name_and_never_its_first_words_alone():
    forms = subject_forms("Jean Paul Galland")
    assert "Galland" in forms and "Paul Galland" in forms and "J. Paul Galland" in forms
    assert "Jean" not in forms and "Jean Paul" not in forms and "Jean Paul Galland" not in forms
    assert len(set(forms)) == len(forms) and all("Galland" in form for form in forms)
    assert all("Prince" in form and form != "Prince" for form in subject_forms("Prince"))


def test_other_subjects_go_on_behind_the_edited_fact():
    names = ("Cresta Toyota",)
    first, again = (prompts_after_fact(REQUEST, (), names, TEXT, 40, 0) for _ in range(2))
    assert first == again
    facts = {fact for fact, _ in first}
    assert facts == {"Toyota Cresta, produced by Fiat. ", "Cresta Toyota, produced by Fiat. "}
    for fact, prompt in first:
        assert prompt.text.startswith(fact) and prompt.prefix == fact
        assert prompt.suffix == ", produced by" and prompt.subject not in (REQUEST.subject, *names)
    assert prompts_after_fact(REQUEST, (), (), OrdinaryText((), ()), 40, 0) == []
