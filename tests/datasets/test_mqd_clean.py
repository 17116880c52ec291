"""Cleaning, shapes and templates: what is dropped and why, and how a fact becomes a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyedit_rep.datasets.mqd.clean import Dropped, clean_event, clean_tail, content_words, normal
from easyedit_rep.datasets.mqd.relations import TEMPLATES, prompt_of
from easyedit_rep.datasets.mqd.shapes import Shape, shape_of


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("to thank person x.", "to thank PersonX"),
        (" To  hug X's dog! ", "to hug PersonX's dog"),
        ("FEELS HAPPY", "feels happy"),
        ("personY’s keys", "PersonY's keys"),
        ("I am", "I am"),
        ("TV is on", "TV is on"),
        ("gets an x-ray", "gets an x-ray"),
    ],
)
def test_tails(raw, clean):
    assert clean_tail(raw) == clean
    assert clean_tail(clean) == clean


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("none", "none"),
        ("None.", "none"),
        ("N/A", "none"),
        ("  ", "empty"),
        ("...", "empty"),
        ("to find ___", "blank"),
        ("use ———", "blank"),
        ("a; b", "invalid characters"),
        ("run away`", "invalid characters"),
        ("a {} b", "invalid characters"),
        ("bro\ufffdken", "invalid characters"),
        ('says "hi', "invalid characters"),
        ("He runs. He hides", "several sentences"),
    ],
)
def test_dropped_tails(raw, why):
    with pytest.raises(Dropped, match=why):
        clean_tail(raw)


def test_events():
    assert clean_event("PersonX does n't like PersonX 's father 's car") == "PersonX doesn't like PersonX's father's car"
    assert clean_event("PersonX can n't sleep , though") == "PersonX can't sleep, though"
    for raw in ("PersonX eats ___", "PersonX", " ", "PersonX {}"):
        with pytest.raises(Dropped):
            clean_event(raw)


@given(st.text(max_size=30))
def test_clean_tails_are_one_line_without_what_formats_use(text):
    try:
        clean = clean_tail(text)
    except Dropped:
        return
    assert clean.strip() == clean and clean and "\n" not in clean
    assert not set(clean) & set("{};()[]_`") and not clean.endswith((".", ",", ":"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("to thank PersonX", "Thanks person x".replace("person x", "PersonX")),
        ("is happy", "Happy"),
        ("a good friend", "good friend"),
        ("gets the car's keys", "get a cars keys"),
    ],
)
def test_the_same_tail_said_otherwise(one, other):
    assert normal(one) == normal(other)


def test_different_tails_stay_different():
    assert normal("to be alone") != normal("to be left alone") and normal("the") == ""
    assert content_words("PersonX plays PersonY's favorite songs") & content_words("to play a song") == {"play", "song"}
    assert not content_words("PersonX gets what is his")


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        ("to sleep", Shape.WISH),
        ("for PersonY to sleep", Shape.WISH),
        ("other people to listen", Shape.WISH),
        ("them to listen", Shape.WISH),
        ("sleep", Shape.BASE),
        ("also gets wet", Shape.THIRD),
        ("goes home", Shape.THIRD),
        ("can rest", Shape.MODAL),
        ("PersonY is hurt", Shape.CLAUSE),
        ("PersonX", Shape.OTHER),
        ("a companion", Shape.NOUN),
        ("more careful", Shape.QUALITY),
        ("yelled at by PersonY", Shape.QUALITY),
        ("in pain", Shape.QUALITY),
        ("very happy", Shape.QUALITY),
        ("money", Shape.OTHER),
        ("to", Shape.OTHER),
    ],
)
def test_shapes(tail, shape):
    assert shape_of(tail) is shape


@pytest.mark.parametrize(
    ("event", "relation", "tail", "sentence"),
    [
        (
            "PersonX accepts PersonY appointment",
            "oEffect",
            "shakes PersonX hand",
            "PersonX accepts PersonY appointment, resulting in PersonY",
        ),
        ("PersonX sings", "oEffect", "claps hands", "PersonX sings, resulting in someone else"),
        ("PersonX sings", "oEffect", "clap", "PersonX sings, so others may"),
        ("PersonX sings", "oWant", "to clap", "PersonX sings, and then others want"),
        ("PersonX helps PersonY", "oWant", "thank PersonX", "PersonX helps PersonY, and then PersonY wants to"),
        ("PersonX helps PersonY", "oReact", "grateful", "PersonX helps PersonY, so PersonY feels"),
        ("PersonX sings", "oReact", "bored", "PersonX sings, so others feel"),
        ("PersonX sings", "xIntent", "heard", None),
        ("PersonX sings", "xIntent", "to be heard", "PersonX sings, because PersonX wanted"),
        ("PersonX sings", "xNeed", "learn the song", "PersonX sings, but before that PersonX needed to"),
        ("car magazines", "HasProperty", "useful", "The car magazines are"),
        ("glass", "HasProperty", "wet", "The glass is"),
        ("PersonX sings", "isFilledBy", "songs", None),
    ],
)
def test_sentences(event, relation, tail, sentence):
    assert prompt_of(event, relation, tail) == sentence


def test_the_papers_own_example():
    event = "PersonX accepts PersonY appointment"
    assert prompt_of(event, "oEffect", "shakes PersonX hand") == "PersonX accepts PersonY appointment, resulting in PersonY"


def test_every_template_begins_with_the_event_or_its_article():
    for relation, templates in TEMPLATES.items():
        for template in templates.values():
            assert template.startswith(("{event}", "The {event}", "To {event}")), relation
            assert template.count("{event}") == 1
