"""Names of other edits that a gate is told of."""

import pytest

from easyedit_rep import EditRequest
from easyedit_rep.queries import Queries, QueryMaker, Split
from easyedit_rep.queries.neighbours import Neighbours
from easyedit_rep.rep_options import QueryOptions

NONE = Split()
E23 = EditRequest("{} is produced by", "BMW E23", "Fiat")
QUERIES = Queries(Split(("the BMW E23 sedan", "E23 by BMW"), ("E23",)), Split(("E23 BMW",)), NONE)
B326 = EditRequest("Who built the {}?", "BMW 326", "Nissan", subject_rephrase=("the old 326", "326"))
OTHERS = [EditRequest("{} plays the", name, "violin") for name in ("Ann Lee", "Otto Brandt", "Ann Smith")]


@pytest.fixture
def maker(tok):
    return QueryMaker.of(QueryOptions(shuffle_count=2, long_context_count=0, rephrase_rules=False), tok, None, 512, 0)


def test_they_are_named_as_their_own_pathways_know_them(maker):
    found = Neighbours([B326], [(E23, QUERIES)], maker, 9, 0).prompts(E23, QUERIES)
    queries = maker(B326)
    names = ["BMW 326", *queries.rephrase.in_domain]
    asked = [text.format(name) for name in names for text in ("Who built the {}?", "{} is produced by")]
    assert queries.shuffle.in_domain and len(names) == 2 and [p.text for p in found] == asked


def test_of_edits_made_together_each_is_a_neighbour_of_the_others(maker):
    ann = Queries(Split(("Miss Lee",)), NONE, NONE)
    beside = Neighbours([], [(E23, QUERIES), (OTHERS[0], ann)], maker, 9, 0)
    assert [p.text for p in beside.prompts(E23, QUERIES)][::2] == ["Ann Lee plays the", "Miss Lee plays the"]
    assert [p.subject for p in beside.prompts(OTHERS[0], ann)][::2] == ["BMW E23", "the BMW E23 sedan", "E23 by BMW"]


def test_another_edit_of_this_subject_is_none(maker):
    again = [EditRequest("{} was built in", name, "Rome") for name in ("BMW E23", " bmw  e23")]
    assert Neighbours(again, [(E23, QUERIES)], maker, 9, 0).prompts(E23, QUERIES) == []


def test_a_name_that_holds_the_subjects_own_is_no_negative(maker):
    longer = EditRequest("{} is", "BMW E23 convertible", "red", subject_rephrase=("The E23 BMW", "BMW E235", "an E23"))
    subjects = {p.subject for p in Neighbours([longer], [], maker, 9, 0).prompts(E23, QUERIES)}
    assert "BMW E235" in subjects and not subjects & {"BMW E23 convertible", "The E23 BMW"}


def test_of_many_those_that_share_a_word_and_then_some_that_the_seed_draws(maker):
    active = [*OTHERS, B326]

    def subjects(n, seed=0):
        found = [p.subject for p in Neighbours(active, [], maker, n, seed).prompts(E23, QUERIES)]
        return [name for name in dict.fromkeys(found) if name in {r.subject for r in active}]

    assert subjects(0) == [] and subjects(1) == ["BMW 326"] and len(subjects(2)) == 2 and subjects(2)[0] == "BMW 326"
    assert subjects(2) == subjects(2) and sorted(subjects(9)) == sorted(r.subject for r in active)
    assert len({tuple(subjects(2, seed)) for seed in range(8)}) > 1


def test_names_of_what_the_model_carries_are_made_once(maker, monkeypatch):
    beside, asked, real = Neighbours([B326], [(E23, QUERIES)], maker, 9, 0), [], QueryMaker.rephrased
    monkeypatch.setattr(QueryMaker, "rephrased", lambda self, request: asked.append(request.subject) or real(self, request))
    assert beside.prompts(E23, QUERIES) == beside.prompts(E23, QUERIES) and asked == ["BMW 326"]
