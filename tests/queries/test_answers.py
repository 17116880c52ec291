"""Lists in a model's answer, and what is no other name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyedit_rep.queries.answers import parse_names, valid_names, without_targets


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! Here are 3 rephrases:\n\n1. The Sun King\n2. **Louis the Great**\n3) “Le Roi Soleil”\n\nLet me know!",
        "- The Sun King\n* Louis the Great\n• Le Roi Soleil",
        '["The Sun King", "Louis the Great", "Le Roi Soleil"]',
        'Here:\n```json\n{"rephrases": ["The Sun King", "Louis the Great", "Le Roi Soleil"]}\n```',
        '{"1": "The Sun King", "2": "Louis the Great", "3": "Le Roi Soleil"}',
    ],
)
def test_lists_of_every_form(answer):
    assert parse_names(answer) == ["The Sun King", "Louis the Great", "Le Roi Soleil"]


@pytest.mark.parametrize("answer", ["", "I cannot help with that.", "{", "[1, 2]", "1.\n2.", "Louis, 1638 - 1715, a king"])
def test_no_list_no_names(answer):
    assert parse_names(answer) == []


def test_what_is_no_other_name_is_left_out():
    names = ["louis XIV.", "The Sun  King", "the sun king", " ", "x" * 300, "Louis the Great"]
    assert valid_names("Louis XIV", names) == ("The Sun King", "Louis the Great")


def test_a_name_that_says_the_target_is_left_out():
    names = ("the English actress", "Anglo-English", "Englishman", "D. D.", "C++ (language)")
    assert without_targets(names, [" English"]) == ("Englishman", "D. D.", "C++ (language)")
    assert without_targets(names, ["C++", ""]) == names[:4]


@given(st.text(), st.lists(st.text()))
def test_valid_names_are_distinct_and_stay_valid(subject, names):
    once = valid_names(subject, names)
    assert valid_names(subject, once) == once
    assert len({name.casefold() for name in once}) == len(once)
    assert all(name.strip() and name.casefold() != subject.casefold() for name in once)
