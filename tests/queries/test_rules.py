"""Names by rule, and halves drawn by seed: disjoint from training, stable."""

import itertools

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from easyedit_rep import EditRequest
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.queries import QueryMaker, Split
from easyedit_rep.queries.forms import subject_forms
from easyedit_rep.queries.rules import rule_rephrases
from easyedit_rep.queries.shuffle import shuffled_subjects

WORDS = st.lists(st.text(st.sampled_from("abcDEŁó.'{}"), min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join)
FIXTURES_ARE_CONSTANT = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
VARIANTS = st.lists(st.sampled_from("abcdefgh")).map(tuple)


@given(WORDS, st.integers(0, 20), st.integers(0, 3))
def test_rule_names_are_no_training_forms(subject, n, seed):
    names = rule_rephrases(subject, n, seed)
    assert len(names) == len({name.casefold() for name in names}) <= n
    assert not {name.casefold() for name in names} & {form.casefold() for form in (subject, *subject_forms(subject))}
    assert names == rule_rephrases(subject, n, seed)
    assert names == rule_rephrases(subject, 20, seed)[:n], "asking for fewer changes none"


def test_rule_names():
    names = rule_rephrases("Jean Paul Galland", 30, 0)
    assert {"Galland (Jean Paul)", "J. P. Galland", "Professor Jean Paul Galland", "Galland Jean Paul"} < set(names)
    assert rule_rephrases("Jean Paul Galland", 30, 1) != names
    assert len(rule_rephrases("Paris", 10, 0)) == 10


@given(VARIANTS, st.integers(0, 3), st.data())
def test_drawn_halves_are_disjoint_and_stable(variants, seed, data):
    split = Split.drawn(variants, "Ann", seed)
    assert not set(split.in_domain) & set(split.out_of_domain)
    assert {*split.in_domain, *split.out_of_domain} == set(variants)
    assert len(split.in_domain) - len(split.out_of_domain) in (0, 1)
    other = Split.drawn(tuple(data.draw(st.permutations(variants))), "Ann", seed)
    assert (set(other.in_domain), set(other.out_of_domain)) == (set(split.in_domain), set(split.out_of_domain))


def test_drawn_halves_depend_on_seed_and_subject():
    variants = tuple("abcdefghij")
    assert Split.drawn(variants, "Ann", 0) != Split.drawn(variants, "Ann", 1)
    assert Split.drawn(variants, "Ann", 0) != Split.drawn(variants, "Bob", 0)


@FIXTURES_ARE_CONSTANT
@given(subject=WORDS, n=st.integers(1, 8), seed=st.integers(0, 3))
def test_shuffles_are_permutations_of_token_ids(any_tok, subject, n, seed):
    ids = any_tok(" " + subject.strip(), add_special_tokens=False)["input_ids"]
    assume(len(ids) <= 6)
    allowed = {any_tok.decode(order, skip_special_tokens=True, clean_up_tokenization_spaces=False) for order in itertools.permutations(ids)}
    assert set(shuffled_subjects(any_tok, subject, n, seed)) <= {text.strip() for text in allowed} - {subject.strip()}


@FIXTURES_ARE_CONSTANT
@given(
    limit=st.integers(24, 90), subject=st.sampled_from(["Ann Lee", "{}", "a {b} c", "Łódź 🙂"]), brace=st.sampled_from(["", "{}", "{x}"])
)
def test_contexts_fit_and_braces_are_characters(any_tok, limit, subject, brace):
    corpus = load_corpus([f"We write {brace} and it rains on the road in winter.", "The river {was} high again and again and again."])
    maker = QueryMaker(any_tok, {}, corpus, 2, 3, 500, limit, 0)
    request = EditRequest(f"Say {subject} is", subject, "music")
    if "{}" in subject:
        request = EditRequest("Say {} is", subject, "music")
    queries = maker(request)
    contexts = (*queries.long.in_domain, *queries.long.out_of_domain)
    asked = queries.prompts(request.located)["long"]
    for context, prompt in zip(contexts, [*asked["in_domain"], *asked["out_of_domain"]], strict=True):
        assert prompt.text == f"{context} Say {subject} is"
        assert len(any_tok(f"{prompt.text} music")["input_ids"]) <= limit


def test_rules_serve_only_requests_that_have_no_names(tok):
    maker = QueryMaker(tok, {"Ann Lee": ("Annie",)}, None, 0, 0, 10, 512, 0, rule_count=10)
    assert maker(EditRequest("{} is", "Ann Lee", "x")).rephrase == Split(("Annie",))
    assert maker(EditRequest("{} is", "Bob Ray", "x", subject_rephrase=("Bobby",))).rephrase == Split(("Bobby",))
    made = maker(EditRequest("{} is", "Bob Ray", "x")).rephrase
    assert (len(made.in_domain), len(made.out_of_domain)) == (5, 5)
    assert QueryMaker(tok, {}, None, 0, 0, 10, 512, 0)(EditRequest("{} is", "Bob Ray", "x")).rephrase == Split()


@pytest.mark.parametrize("draw", [False, True])
def test_the_halves_are_the_papers_unless_drawn(tok, draw):
    names = tuple("abcdefghij")
    maker = QueryMaker(tok, {}, None, 0, 0, 10, 512, 0, draw_split=draw)
    split = maker(EditRequest("{} is", "Bob Ray", "x", subject_rephrase=names)).rephrase
    assert split == (Split.drawn(names, "Bob Ray", 0) if draw else Split(names[:5], names[5:]))


def test_no_shuffle_is_not_applicable_only_if_asked(make_tokenizer):
    tok = make_tokenizer("bos")
    request = EditRequest("{} it", "is", "x")
    assert QueryMaker(tok, {}, None, 4, 0, 10, 512, 0)(request).not_applicable == {"shuffle"}
    assert not QueryMaker(tok, {}, None, 0, 0, 10, 512, 0)(request).not_applicable
    assert not QueryMaker(tok, {}, None, 4, 0, 10, 512, 0)(EditRequest("{} it", "Ann Lee", "x")).not_applicable
