"""Forms of a subject that gates are opened for, and the same forms of others."""

import random

import pytest

from easyedit_rep.queries.forms import _AROUND, _BEFORE, _REORDERED, filled, varied_templates
from easyedit_rep.queries.negatives import OrdinaryText, matched_prompts
from easyedit_rep.queries.rules import rule_rephrases
from easyedit_rep.request import EditRequest

SUBJECTS = ["Danielle Darrieux", "Thomas Joannes Stieltjes", "Saladin"]
TEXT = OrdinaryText(("Ann Smith", "Ontario", "Karl Marx", "Royal Navy"), ("some words of text that are not about anybody at all",))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_templates_are_distinct_fixed_and_filled(subject):
    templates = varied_templates(subject, 60)
    assert templates == varied_templates(subject, 60)
    assert len(set(templates)) == len(templates) > 40
    assert varied_templates(subject, 0) == ()
    names = [filled(t, subject) for t in templates]
    assert not any("{" in name or "  " in name for name in names)
    words = subject.split()
    assert all(any(word in name for word in words) for name in names)
    assert any(subject not in name for name in names) == (len(words) > 1), "several words are also reordered"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_none_is_a_name_that_evaluation_makes_by_rule(subject):
    asked = {name.casefold() for name in rule_rephrases(subject, 99, 0)}
    reordered = _REORDERED if len(subject.split()) > 1 else ()
    templates = [*_AROUND, *(f"{before} {{}}" for before in _BEFORE), *reordered]
    assert asked
    assert not asked & {filled(t, subject).casefold() for t in templates}


def test_others_wear_the_same_forms():
    request, rephrases = EditRequest("{} was born in", "Danielle Darrieux", "Rome"), ("Actress Danielle Darrieux", "Miss Darrieux")
    prompts = matched_prompts(request, rephrases, TEXT, 30, 0)
    assert prompts == matched_prompts(request, rephrases, TEXT, 30, 0)
    names = [p.subject for p in prompts]
    own = {request.subject, *rephrases, *(filled(t, request.subject) for t in varied_templates(request.subject, 30))}
    assert not own & set(names)
    assert len(names) > 30
    assert any(name.startswith("Danielle ") for name in names), "some share its first words"
    assert not any("Darrieux" in name for name in names), "and none its last, which is a name of it"
    assert {"Actress Ann Smith", "Actress Karl Marx", "Miss Ontario", "Miss Navy"} & set(names)
    assert all(p.suffix == " was born in" for p in prompts)


def test_without_names_or_forms_there_are_none():
    request = EditRequest("{} was born in", "Saladin", "Rome")
    assert matched_prompts(request, ("Sultan Saladin",), OrdinaryText((), ()), 10, 0) == []
    assert matched_prompts(request, ("Sultan Saladin",), TEXT, 0, 0) == []
    assert matched_prompts(request, (), TEXT, 10, random.Random(0).randrange(9))
