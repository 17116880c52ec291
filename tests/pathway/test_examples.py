"""Which prompts a pathway is trained on, and the keys read from them."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep.memory.keys import read_keys, read_token_keys
from easyedit_rep.memory.tokens import locate
from easyedit_rep.pathway.examples import Examples, read_training_keys, training_prompts
from easyedit_rep.pathway.ordinary import OrdinaryKeys
from easyedit_rep.pathway.training import SHARES, PathwayTraining
from easyedit_rep.queries import Queries, Split
from easyedit_rep.queries.negatives import OrdinaryText, prompts_after_fact
from easyedit_rep.queries.occurrences import Occurrences
from easyedit_rep.request import EditRequest

REQUEST = EditRequest("The mother tongue of {} is", "Ann Lee", "Spanish", rephrase_prompts=("At home Ann Lee speaks", "She speaks"))
QUERIES = Queries(Split(("A. Lee",), ("Annie",)), Split(("Lee Ann",), ("Le Anne",)), Split(("It was winter.",), ("It was summer.",)))
CONTEXTS = ("", "I like. ", "I like. ")
PAPER = PathwayTraining()


def texts(config):
    return [p.text for p in training_prompts(REQUEST, QUERIES, CONTEXTS, config)]


def read(memory, layer, star, config, ordinary=None, text=None):
    example = Examples.of(memory, REQUEST, QUERIES, config, text, seed=0)
    (keys,) = read_training_keys(memory, layer, [example], star[None], config, ordinary)
    return keys


def test_prompts_are_contexts_times_subjects_and_then_long_contexts():
    subjects = ["Ann Lee", "A. Lee", "Lee Ann"]
    want = [f"{context}The mother tongue of {subject} is" for subject in subjects for context in ("", "I like. ")]
    assert texts(PAPER) == [*want, "It was winter. The mother tongue of Ann Lee is"]
    assert texts(PAPER)[0] == REQUEST.text
    assert texts(replace(PAPER, long_in_training=False)) == want


def test_paraphrases_are_templates_only_when_asked_and_where_they_name_the_subject():
    more = texts(replace(PAPER, prompt_rephrases=True))
    assert set(texts(PAPER)) < set(more)
    assert more[0] == REQUEST.text
    assert "I like. At home Lee Ann speaks" in more
    assert not any("She speaks" in text for text in more)


def test_what_is_held_out_is_never_trained_on():
    seen = " ".join(texts(replace(PAPER, prompt_rephrases=True)))
    assert not any(held in seen for held in ("Annie", "Le Anne", "summer"))


def test_forms_that_are_held_out_names_are_left_out():
    forms = replace(PAPER, subject_forms=True)
    rephrases = Split(("A. Lee",), ("mr.  lee", "Ann Lee Model"))
    queries = replace(QUERIES, rephrase=rephrases, shuffle=Split(("Lee Ann",), (" LEE, Ann",)))

    def subjects(queries):
        return {p.subject for p in training_prompts(REQUEST, queries, CONTEXTS, forms)}

    assert subjects(QUERIES) - subjects(queries) == {"Mr. Lee", "Ann Lee model", "Lee, Ann"}
    assert "The Ann Lee" in subjects(queries)


@pytest.mark.parametrize("target", ["whitened", "raw"])
def test_keys_are_the_prompts_own(model, tok, make_memory, target):
    memory = make_memory(model, tok, layers=(1, 2), contexts=CONTEXTS[:2])
    stars = {1: torch.randn(48), 2: torch.randn(48)}
    config = replace(PAPER, target=target)
    found = {layer: read(memory, layer, star, config) for layer, star in stars.items()}
    located = [locate(tok, p) for p in training_prompts(REQUEST, QUERIES, memory.contexts, config)]
    for layer, keys in found.items():
        want = read_keys(memory.anatomy, located, [layer])[layer]
        torch.testing.assert_close(keys.prompt, want[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(keys.positives, want[1:], rtol=1e-4, atol=1e-5)
        assert torch.equal(keys.mean, stars[layer])
        direction = stars[layer].double()
        if target == "whitened":
            direction = torch.linalg.solve(memory.covariances[layer].moment, direction)
        torch.testing.assert_close(keys.target.double(), direction / direction.norm(), rtol=1e-3, atol=1e-5)


def test_negatives_are_other_tokens_never_the_subjects_last(llama, tok, make_memory, corpus):
    memory = make_memory(llama, tok, contexts=("", "I like. "))
    star, config = torch.randn(48), replace(PAPER, other_subjects=6)
    ordinary, text = OrdinaryKeys(torch.full((3, 48), 7.0), torch.ones(1, 48), (5,)), OrdinaryText.from_corpus(corpus, 20, seed=0)
    keys = read(memory, 1, star, config, ordinary, text)
    prompts = training_prompts(REQUEST, QUERIES, memory.contexts, config)
    located = [locate(tok, p) for p in prompts]
    groups = keys.negatives
    assert set(groups) == set(SHARES)
    own = [p.subject == "Ann Lee" for p in prompts]  # what follows the subject is read after the request's own only
    assert len(groups["prompt"]) == sum(len(p.ids) - 1 if mine else p.last for p, mine in zip(located, own, strict=True))
    assert torch.equal(groups["text"], ordinary.text)
    words = [token for token in tok.tokenize(" Ann Lee") if token.strip("Ġ▁")]  # a space before it is not the subject's
    assert len(groups["subject"]) == sum(own) * (len(words) - 1)
    last = torch.cat([keys.positives, keys.prompt[None]])
    for kind, rows in groups.items():
        assert torch.cdist(rows, last).min() > 1e-3, kind  # min() of nothing raises
    none = read(memory, 1, star, PAPER).negatives
    assert len(none["text"]) == len(none["others"]) == 0


def test_positives_are_told_apart_by_what_they_are_like(llama, tok, make_memory):
    memory = make_memory(llama, tok, contexts=CONTEXTS[:2])
    config = replace(PAPER, subject_forms=True)
    found = read(memory, 1, torch.randn(48), config)
    prompts = training_prompts(REQUEST, QUERIES, memory.contexts, config)[1:]
    want = {"Ann Lee": "subject", "A. Lee": "rephrase", "Lee Ann": "shuffle"}
    assert len(found.kinds) == len(found.positives) == len(found.own_word) == len(prompts)
    for prompt, kind, own in zip(prompts, found.kinds, found.own_word.tolist(), strict=True):
        long = prompt.prefix.startswith("It was winter.")
        assert kind == ("long" if long else want.get(prompt.subject, "forms"))
        if prompt.subject in ("Ann Lee", "A. Lee"):
            assert own
    assert set(found.kinds) == {"subject", "rephrase", "shuffle", "long", "forms"}
    assert not found.own_word.all()


def test_own_prompts_other_tokens_and_those_behind_the_subject(llama, tok, make_memory):
    memory = make_memory(llama, tok, contexts=CONTEXTS[:2])
    found = read(memory, 1, torch.randn(48), replace(PAPER, subject_forms=True))
    own = [p for p in training_prompts(REQUEST, QUERIES, memory.contexts, PAPER) if p.subject == REQUEST.subject]
    located = [locate(tok, p) for p in own]
    assert len(found.own) == sum(len(p.ids) - 1 for p in located) < len(found.negatives["prompt"])
    first_words = found.negatives["subject"]
    assert len(first_words) and all((key == found.own).all(-1).any() for key in first_words)
    assert len(found.shut) == located[0].last + sum(len(p.ids) - p.last - 1 for p in located)
    assert all((key == found.own).all(-1).any() for key in found.shut)
    assert not any((key == found.prompt).all() for key in found.shut)


def test_keys_behind_the_fact_and_of_bare_words(model, tok, make_memory, corpus):
    memory = make_memory(model, tok, contexts=CONTEXTS[:2])
    text = OrdinaryText.from_corpus(corpus, 20, seed=0)
    occurrences = Occurrences.of(tok, [tok(paragraph)["input_ids"] for paragraph in corpus.shuffled(0)])
    config = replace(PAPER, other_subjects=4, after_fact=5, same_words=3, stray_words=2)
    example = Examples.of(memory, REQUEST, QUERIES, config, text, 0, occurrences)
    (keys,) = read_training_keys(memory, 1, [example], torch.randn(48)[None], config)
    facts = prompts_after_fact(REQUEST, ("A. Lee",), ("A. Lee", "Lee Ann"), text, 5, 0)
    assert len(example.after) == len(facts) > 0
    whole, subjects = [], []
    for (fact, prompt), (located, start) in zip(facts, example.after, strict=True):
        assert tok.decode(located.ids[start:]).strip() == prompt.text.removeprefix(fact).strip()
        assert prompt.subject in tok.decode(located.ids[located.first : located.last + 1])
        found = read_token_keys(memory.anatomy, [located.ids], [1])[1][0]
        whole.append(found[start:])
        subjects.append(found[located.first : located.last + 1])
    for got, want in zip(keys.after, (whole, subjects), strict=True):
        torch.testing.assert_close(got, torch.cat(want), rtol=1e-4, atol=1e-5)
    for own, windows, got in zip((True, False), example.same, keys.same, strict=True):
        ends = {p.ids[p.last] for p, mine in zip(example.located, example.own_word, strict=True) if mine == own}
        assert {w[-1] for w in windows} <= ends and len(windows) == len(got)
        assert not any(tok.decode(w).endswith("Ann Lee") for w in windows)
    assert len(keys.same[0]), "or nothing was compared"
    one = read_token_keys(memory.anatomy, example.same[0][:1], [1])[1][0][-1]
    torch.testing.assert_close(keys.same[0][0], one, rtol=1e-4, atol=1e-5)
    assert {w[-1] for w in example.stray} <= keys.names and len(example.stray) == len(keys.stray) > 0
    spelt = [tok(space + word, add_special_tokens=False)["input_ids"] for space in ("", " ") for word in ("Ann", "Lee")]
    begun = {next(token for token in ids if tok.decode([token]).strip()) for ids in spelt}
    assert begun & keys.names and not begun & {w[-1] for w in example.stray}, "a word of the subject's own is no stray"
    want = [read_token_keys(memory.anatomy, [w], [1])[1][0][-1] for w in example.stray]
    torch.testing.assert_close(keys.stray, torch.stack(want), rtol=1e-4, atol=1e-5)
    plain = read(memory, 1, torch.randn(48), replace(config, after_fact=0, same_words=0, stray_words=0), None, text)
    assert plain.after == () and not any(len(part) for part in (*plain.same, plain.stray))
    for name, rows in plain.negatives.items():
        torch.testing.assert_close(rows, keys.negatives[name], rtol=1e-4, atol=1e-5)


def test_the_names_own_tokens_are_told(llama, tok, make_memory):
    memory = make_memory(llama, tok, contexts=CONTEXTS[:2])
    ordinary = OrdinaryKeys(torch.zeros(1, 48), torch.zeros(0, 48))
    keys = read(memory, 1, torch.randn(48), PAPER, ordinary)
    assert keys.ordinary is ordinary
    for name in ("Ann Lee", "A. Lee", "Lee Ann"):
        for text in (name, f"I like. {name}"):
            ids = tok(text, add_special_tokens=False)["input_ids"]
            assert ids[-1] in keys.names
    assert not keys.names & set(tok(" is", add_special_tokens=False)["input_ids"])


def test_rows_that_do_not_fit_the_models_positions_are_left_out(llama, tok, make_memory, corpus, monkeypatch):
    memory = make_memory(llama, tok, contexts=CONTEXTS[:2])
    text, config = OrdinaryText.from_corpus(corpus, 20, seed=0), replace(PAPER, after_fact=8)
    lengths = sorted(len(p.ids) for p, _ in Examples.of(memory, REQUEST, QUERIES, config, text, 0).after)
    monkeypatch.setattr(memory.anatomy, "max_positions", lengths[-1] - 1)
    kept = Examples.of(memory, REQUEST, QUERIES, config, text, 0).after
    assert 0 < len(kept) < len(lengths) and all(len(p.ids) < lengths[-1] for p, _ in kept)
