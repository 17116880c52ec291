"""Where a subject ends and a target begins, in ids, for tokenizers of every kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from easyedit_rep.errors import EditError
from easyedit_rep.memory.tokens import Prompt, batches, continuation, locate, pad, with_offsets

PROMPTS = {
    "start": Prompt("", "Eiffel Tower", " is in Paris"),
    "middle": Prompt("The mother tongue of ", "Danielle Darrieux", " is"),
    "end": Prompt("She lived in ", "London", ""),
    "last of two": Prompt("Ann Lee met ", "Ann Lee", " in London"),
    "first of two": Prompt("", "Ann Lee", " met Ann Lee in London"),
    "non-ASCII": Prompt("The city of ", "Łódź", " is"),
    "four bytes": Prompt("We write ", "🙂", " often"),
    "mid-word": Prompt("The computers of ", "comput", "ers"),
    "after a bracket": Prompt("It is {", "naïve", "} in Zürich"),
    "in a context": Prompt("", "Danielle Darrieux", " is").after("Therefore the council met. "),
}


def decoded(tok, ids):
    return tok.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_subject_is_complete_exactly_at_its_last_token(any_tok, prompt):
    located = locate(any_tok, prompt)
    upto = prompt.prefix + prompt.subject
    complete = [i for i in range(len(located.ids)) if decoded(any_tok, located.ids[: i + 1]).startswith(upto)]
    assert located.ids == any_tok(prompt.text)["input_ids"]
    assert located.last == complete[0]


def test_a_token_shared_with_what_follows_counts_as_the_subjects():
    merged = Tokenizer(models.BPE(vocab={"U": 0, ".": 1, "S": 2, "S.": 3}, merges=[("S", ".")]))
    tok = PreTrainedTokenizerFast(tokenizer_object=merged)
    located = locate(tok, Prompt("", "U.S", "."))
    assert (located.ids, located.last) == ([0, 1, 3], 2)


def test_padding_and_truncation_sides_change_nothing(any_tok, prompt):
    want = locate(any_tok, prompt), continuation(any_tok, prompt.text, "French wine")
    before = any_tok.padding_side, any_tok.truncation_side
    try:
        for side in ("left", "right"):
            any_tok.padding_side = any_tok.truncation_side = side
            assert (locate(any_tok, prompt), continuation(any_tok, prompt.text, "French wine")) == want
    finally:
        any_tok.padding_side, any_tok.truncation_side = before


def test_a_subject_without_a_token_is_refused():
    letters = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))  # no unknown token: other characters vanish
    with pytest.raises(EditError, match="no token to subject 'zz'"):
        locate(PreTrainedTokenizerFast(tokenizer_object=letters), Prompt("a ", "zz", " b"))


class GPT2Tokenizer(PreTrainedTokenizer):
    """A slow tokenizer by a name Transformers can convert: every character is a token."""

    def __init__(self, **kwargs):
        self.encoder, self.bpe_ranks, self.add_prefix_space, self.add_bos_token = {c: i for i, c in enumerate("abcĠ")}, {}, False, False
        super().__init__(**kwargs)

    vocab_size = property(lambda self: len(self.encoder))

    def get_vocab(self):
        return dict(self.encoder)

    def _tokenize(self, text, **kwargs):
        return list(text.replace(" ", "Ġ"))

    def _convert_token_to_id(self, token):
        return self.encoder[token]

    def _convert_id_to_token(self, index):
        return list(self.encoder)[index]


class UnheardOfTokenizer(GPT2Tokenizer):
    pass


def test_slow_tokenizer_gets_a_fast_twin(tok):
    slow = GPT2Tokenizer()
    fast = with_offsets(slow)
    assert with_offsets(tok) is tok
    assert not slow.is_fast
    assert fast("ab c")["input_ids"] == slow("ab c")["input_ids"] == [0, 1, 3, 2]
    assert locate(fast, Prompt("a ", "bb", " c")).last == 3


def test_slow_tokenizer_without_a_twin_is_refused():
    with pytest.raises(EditError, match=r"UnheardOfTokenizer has no character offsets and no fast twin: load .* use_fast=True"):
        with_offsets(UnheardOfTokenizer())


@pytest.mark.parametrize("target", ["French", " French", "Łódź", "New Zürich 🙂"])
@pytest.mark.parametrize("text", ["She speaks", "She speaks ", "Łódź", "She said: {"])
def test_continuation_is_the_encoding_of_the_joined_text(any_tok, text, target):
    before, ids = continuation(any_tok, text, target)
    joined = text.rstrip() + " " + target.strip()
    assert before + ids == any_tok(joined)["input_ids"]
    assert decoded(any_tok, before).rstrip() == text.rstrip()  # a token that begins in the text and ends in the target is the target's
    assert decoded(any_tok, ids).strip() == target.strip()


def test_a_straddling_token_belongs_to_the_target():
    tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0, " ": 1, "b": 2, " b": 3}, merges=[(" ", "b")])))
    assert continuation(tok, "a ", "b") == continuation(tok, "a", "b") == ([0], [3])


def test_nothing_to_condition_on_is_refused(make_tokenizer):
    with pytest.raises(EditError, match="nothing to predict: prompt ''"):
        continuation(make_tokenizer("no_bos"), "", "Paris")
    assert continuation(make_tokenizer("bos"), "", "Paris")[0] == [1], "BOS is context enough"


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 300))
def test_batches_hold_every_index_once_and_keep_the_budget(lengths, budget):
    groups = list(batches(lengths, budget))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        widest = max(lengths[i] for i in group)
        assert len(group) == 1 or widest * len(group) <= budget
    order = [lengths[i] for group in groups for i in group]
    assert order == sorted(order, reverse=True)


def test_batches_do_not_pad_short_rows_to_long_ones():
    """A record's questions: ten after long contexts, the others of a line."""
    lengths = [12] * 44 + [521] * 10 + [9]
    groups = list(batches(lengths, 16384))
    assert [len(group) for group in groups] == [10, 45]
    assert list(map(len, batches([60, 40, 9, 3], 16384))) == [4], "short rows are not worth a forward of their own"


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=9))
def test_pad_is_undone_by_its_mask(rows):
    ids, mask = pad(rows, "cpu")
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)] == rows
    assert all(keep.tolist() == sorted(keep.tolist(), reverse=True) for keep in mask), "pads come after every real token"
