"""Negatives of an evaluation: never the subject, never a training name, fixed by seed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyedit_rep import EditRequest
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.queries import contrasts as module
from easyedit_rep.queries.contrasts import close_subjects, contrasts, held_out_names
from easyedit_rep.queries.negatives import OrdinaryText
from easyedit_rep.request import Question

NAMES = ("Ontario", "New York", "Buckingham Palace", "Toyota Corolla", "Old Cresta", "Prize")
NEAR = {"near": (Question("Fiat Uno, produced by", "Fiat"), Question("The Golf is made by", "Volkswagen"))}
REQUEST = EditRequest("{}, produced by", "Toyota Cresta", "Honda", ground_truth="Toyota", locality=NEAR, subject_rephrase=("The Cresta",))


def test_every_kind():
    made = contrasts(REQUEST, NAMES, 2, 0)
    assert tuple(made) == module.KINDS
    assert len(made["other_subject"]) == 2
    assert all(q.prompt.endswith(", produced by") and q.answer == "Toyota" for q in made["other_subject"])
    assert any(q.prompt.startswith("Toyota ") for q in made["other_subject"])
    assert [q.prompt for q in made["distracted"]] == [
        "Toyota Cresta, produced by Honda. Fiat Uno, produced by",
        "Toyota Cresta, produced by Honda. The Golf is made by",
    ]
    assert [q.answer for q in made["distracted"]] == ["Fiat", "Volkswagen"]
    assert made["negated"] == (Question("It is not true that Toyota Cresta, produced by", "Toyota"),)
    assert contrasts(REQUEST, NAMES, 2, 0) == made
    assert len(contrasts(REQUEST, NAMES, 1, 0)["distracted"]) == 1


@pytest.mark.parametrize("prompt", ["The maker of {} is", "The maker of {} is "])
def test_a_prompt_that_ends_in_is_becomes_is_not(prompt):
    (question,) = contrasts(EditRequest(prompt, "Ann", "x"), (), 1, 0)["negated"]
    assert question == Question("The maker of Ann is not", "x")


def test_nothing_asked_nothing_made():
    assert contrasts(REQUEST, NAMES, 0, 0) == {}
    assert set(contrasts(EditRequest("{} is", "Ann", "x"), (), 3, 0)) == {"negated"}


@given(st.sampled_from(["Toyota Cresta", "Paris", "Ann Lee"]), st.integers(0, 6), st.integers(0, 3))
def test_close_subjects_are_others(subject, n, seed):
    names = (*NAMES, subject, "Paris Cresta")
    others = close_subjects(subject, ("The Cresta",), names, n, random.Random(seed))
    assert len(set(others)) == len(others) <= n
    assert subject not in others
    assert not any(other.split()[-1] in (subject.split()[-1], "Cresta") for other in others)


def test_the_closest_spelling_comes_first():
    assert close_subjects("Prince", (), NAMES, 1, random.Random(0)) == ("Prize",)


def test_names_are_not_those_of_training(monkeypatch):
    monkeypatch.setattr(module, "TRAINED_NAMES", 2)
    corpus = load_corpus([f"It is said that Ann {last} was there and saw it all in the end." for last in ("Lee", "Ray", "Dove", "Fox")])
    held, trained = held_out_names(corpus, 0), OrdinaryText.from_corpus(corpus, 2, 0).names
    assert len(held) == len(trained) == 2
    assert not {name.split()[-1] for name in held} & {name.split()[-1] for name in trained}
    assert held == held_out_names(corpus, 0)
