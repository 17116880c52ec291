"""Shuffles, long contexts, rephrases, and their halves."""

import itertools
import json
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.errors import EditError
from easyedit_rep.memory.tokens import Prompt, locate
from easyedit_rep.queries import Queries, QueryMaker, Split
from easyedit_rep.queries.endpoint import AnswerCache
from easyedit_rep.queries.long_context import long_contexts
from easyedit_rep.queries.rephrase import load_rephrases
from easyedit_rep.queries.shuffle import shuffled_subjects
from easyedit_rep.request import EditRequest

SUBJECTS = ["Ann Lee", "Danielle Darrieux", "Łódź", "Zürich in Japan", "東京", "naïve 🙂 cafés"]
NAMES = st.text(st.sampled_from("abeghilnotuACDELPSŁóźü 🙂.'"), min_size=1, max_size=14).map(str.strip).filter(bool)
FIXTURES_ARE_CONSTANT = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)


def permutations_of(tok, subject):
    """Everything a shuffle may be: all orders of the subject's tokens, decoded."""
    ids = tok(" " + subject, add_special_tokens=False)["input_ids"]
    assert len(ids) <= 7, "keep the subject short"
    return {tok.decode(order, clean_up_tokenization_spaces=False).strip() for order in itertools.permutations(ids)} - {subject}


@pytest.mark.parametrize("subject", ["Ann Lee", "Łó", "U.S.", "Steve"])
def test_shuffles_are_the_permutations_of_the_tokens(any_tok, subject):
    allowed = {text for text in permutations_of(any_tok, subject) if text and "�" not in text}
    few, more = (shuffled_subjects(any_tok, subject, n, seed=0) for n in (3, len(allowed)))
    assert len(set(few)) == len(few) == min(3, len(allowed))
    assert set(few) <= allowed
    assert set(more) <= allowed
    assert len(more) >= 0.5 * len(allowed), "attempts are bounded: most orders are found, not all"


@FIXTURES_ARE_CONSTANT
@given(subject=NAMES, n=st.integers(0, 8))
def test_shuffles_keep_every_byte(any_tok, subject, n):
    shuffled = shuffled_subjects(any_tok, subject, n, seed=1)
    assert len(shuffled) <= n
    assert len(set(shuffled)) == len(shuffled)
    assert subject not in shuffled
    known = any_tok.decode(any_tok(" " + subject, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
    for text in shuffled:
        # Bytes, because a byte-level tokenizer's tokens may be parts of a character.
        assert sorted(text.replace(" ", "").encode()) == sorted(known.replace(" ", "").encode())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_shuffles_are_fixed_by_seed_and_subject_alone(any_tok, subject):
    want = shuffled_subjects(any_tok, subject, 5, seed=0)
    random.seed(99)
    state = random.getstate()
    assert shuffled_subjects(any_tok, subject, 5, seed=0) == want
    assert shuffled_subjects(any_tok, subject, 3, seed=0) == want[:3], "asking for fewer changes none"
    assert random.getstate() == state
    if len(want) == 5:
        assert shuffled_subjects(any_tok, subject, 5, seed=1) != want


def test_a_single_token_has_no_shuffle(make_tokenizer):
    tok = make_tokenizer("bos")
    assert len(tok(" is", add_special_tokens=False)["input_ids"]) == 1
    assert shuffled_subjects(tok, "is", 10, seed=0) == ()
    assert tok.convert_ids_to_tokens(tok(" The", add_special_tokens=False)["input_ids"]) == ["Ġ", "The"]
    assert shuffled_subjects(tok, "The", 10, seed=0) == (), "a space moved to the end makes no other name"


@pytest.mark.parametrize("n_tokens", [5, 40, 200])
def test_long_contexts_have_their_length_and_do_not_name_the_subject(any_tok, corpus, n_tokens):
    texts = long_contexts(any_tok, corpus, "Steve Jobs", 6, n_tokens, seed=0)
    assert len(texts) == 6
    for text in texts:
        # A cut inside a word may make its end be spelled otherwise.
        assert abs(len(any_tok(text, add_special_tokens=False)["input_ids"]) - n_tokens) <= 2
        assert "Steve Jobs" not in text
        assert text == text.strip()
        assert text in " ".join([*corpus.texts, *corpus.texts]), "it is running text"


def test_long_contexts_are_fixed_by_seed_and_subject(tok, corpus):
    want = long_contexts(tok, corpus, "Ann Lee", 3, 30, seed=0)
    assert long_contexts(tok, corpus, "Ann Lee", 3, 30, seed=0) == want
    assert long_contexts(tok, corpus, "Ann Lee", 3, 30, seed=1) != want != long_contexts(tok, corpus, "Steve", 3, 30, seed=0)


def test_long_contexts_take_what_there_is(tok):
    short = load_corpus(["I like Paris."])
    assert long_contexts(tok, short, "Ann", 2, 500, seed=0) == ("I like Paris.",) * 2
    assert long_contexts(tok, short, "Paris", 2, 500, seed=0) == (), "every text names the subject"


def test_braces_in_a_context_are_ordinary_characters(any_tok):
    (text,) = long_contexts(any_tok, load_corpus(["We write {braces} and {} too."]), "Ann Lee", 1, 500, seed=0)
    prompt = EditRequest("{} plays the", "Ann Lee", "piano").located
    queries = Queries(Split(), Split(), Split((text,)))
    (put,) = queries.prompts(prompt)["long"]["in_domain"]
    assert put.text == f"{text} Ann Lee plays the"
    located = locate(any_tok, put)
    assert any_tok.decode(located.ids[: located.last + 1], skip_special_tokens=True).endswith("Ann Lee")


@given(st.lists(st.sampled_from("abcdefgh")))
def test_halves_are_disjoint_and_in_order(variants):
    split = Split.halves(tuple(variants))
    distinct = list(dict.fromkeys(variants))
    assert [*split.in_domain, *split.out_of_domain] == distinct
    assert len(split.in_domain) - len(split.out_of_domain) in (0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[1]", "holds a list"),
        ('{"Ann": "A."}', "the entry of 'Ann' is not a list of strings"),
        ('{"Ann": ["A.", 5]}', "the entry of 'Ann' is not a list of strings"),
    ],
)
def test_rephrase_file_of_a_wrong_form_is_refused(tmp_path, text, said):
    path = tmp_path / "names.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EditError) as error:
        load_rephrases(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_rephrase_file(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"Łódź": ["Lodz", " ", "the city of Łódź"]}), encoding="utf-8")
    assert load_rephrases(path) == {"Łódź": ("Lodz", "the city of Łódź")}


class TestMaker:
    REQUEST = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish")

    @pytest.fixture
    def make(self, tok, corpus):
        def make(**options):
            rephrases = {"Danielle Darrieux": ("D. D.", "Ms. Darrieux")}
            counts = {"shuffle_count": 4, "long_context_count": 3, "long_context_tokens": 30, "max_tokens": 512, "seed": 0}
            return QueryMaker(**{"tok": tok, "rephrases": rephrases, "corpus": corpus, **counts, **options})

        return make

    def test_makes_what_the_request_lacks(self, make):
        queries = make()(self.REQUEST)
        assert queries.rephrase == Split(("D. D.",), ("Ms. Darrieux",))
        assert (len(queries.shuffle.in_domain), len(queries.shuffle.out_of_domain)) == (2, 2)
        assert (len(queries.long.in_domain), len(queries.long.out_of_domain)) == (2, 1)
        assert queries == make()(self.REQUEST)

    def test_keeps_what_the_request_brings(self, make):
        request = EditRequest("{} is", "Danielle Darrieux", "x", subject_rephrase=("Dani", "D."), long_context=("Once.", "Twice."))
        queries = make()(request)
        assert queries.rephrase == Split(("Dani",), ("D.",))
        assert queries.long == Split(("Once.",), ("Twice.",))

    def test_puts_variants_in_their_place(self, make):
        prompts = make()(self.REQUEST).prompts(self.REQUEST.located)
        assert prompts["rephrase"]["out_of_domain"] == [Prompt("The mother tongue of ", "Ms. Darrieux", " is")]
        assert all(p.prefix == "The mother tongue of " and p.suffix == " is" for p in prompts["shuffle"]["in_domain"])
        assert all(p.text.endswith(" The mother tongue of Danielle Darrieux is") for p in prompts["long"]["in_domain"])

    def test_contexts_leave_room_for_prompt_and_target(self, make, tok):
        for limit in (50, 60, 90):
            queries = make(max_tokens=limit, long_context_tokens=500)(self.REQUEST)
            texts = [p.text for p in queries.prompts(self.REQUEST.located)["long"]["in_domain"]]
            assert texts
            assert all(len(tok(f"{text} Spanish")["input_ids"]) <= limit for text in texts)
        assert make(max_tokens=30)(self.REQUEST).long == Split()

    def test_contexts_that_a_request_brings_are_cut_where_they_would_not_fit(self, make, tok, texts):
        brought = replace(self.REQUEST, long_context=(" ".join(texts[:30]), "Once."))
        whole, cut = make(max_tokens=10_000)(brought), make(max_tokens=60)(brought)
        assert whole.long == Split((" ".join(texts[:30]),), ("Once.",))
        (text,) = cut.long.in_domain
        assert whole.long.in_domain[0].startswith(text) and cut.long.out_of_domain == ("Once.",)
        prompt = self.REQUEST.located.after(text + " ").text
        assert 45 < len(tok(f"{prompt} {self.REQUEST.target_new}")["input_ids"]) <= 60

    @pytest.mark.parametrize("options", [{"corpus": None}, {"long_context_count": 0}])
    def test_none_where_none_can_be_made(self, make, options):
        assert make(**options)(self.REQUEST).long == Split()


def test_what_is_out_of_domain_is_never_a_name_that_is_trained_on(tok):
    maker = QueryMaker(tok, {}, None, 0, 0, 0, 512, 0)
    names = ("Ann  Lee", "A. Lee", "ann lee", "A.  Lee", "Annie")
    found = maker(EditRequest("{} plays the", "Ann Lee", "piano", subject_rephrase=names)).rephrase
    assert found == Split(("A. Lee", "ann lee"), ("Annie",))


def test_paragraphs_are_no_headings_and_no_blank_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join([" ", " = Heading = ", "word " * 20, " ", "other " * 30, "third " * 25]))
    corpus = load_corpus(path)
    assert [text.split()[0] for text in corpus.paragraphs(2)] == ["word", "other"]
    path.write_text(" = Heading = ")
    with pytest.raises(EditError, match="no paragraph of 20 words or more"):
        load_corpus(path).paragraphs(2)


def test_two_processes_share_a_cache_of_answers(tmp_path):
    one, two = AnswerCache(tmp_path, "a", "b"), AnswerCache(tmp_path, "a", "b")
    one.add("first", "1")
    two.add("second", "2")
    one.add("third", "3")
    assert AnswerCache(tmp_path, "a", "b").answers == one.answers == {"first": "1", "second": "2", "third": "3"}
