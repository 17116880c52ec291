"""Each relation of ATOMIC as natural words: an event, and the end of a sentence that a tail can finish.

A relation has a template for each shape of tail it can carry (`shapes.py`); a tail of another shape is not used, because no words of ours
would make it a sentence. `{who}` is whom the event touches: PersonY, where the event names one, otherwise others. The paper's own
rendering of oEffect, "resulting in PersonY", is kept where the tail is of its shape.
"""

from typing import NamedTuple

from .shapes import Shape, shape_of

WISH, BASE, THIRD, CLAUSE, NOUN, QUALITY = Shape.WISH, Shape.BASE, Shape.THIRD, Shape.CLAUSE, Shape.NOUN, Shape.QUALITY
MODAL, OTHER = Shape.MODAL, Shape.OTHER

TEMPLATES: dict[str, dict[Shape, str]] = {
    "xIntent": {
        WISH: "{event}, because PersonX wanted",
        BASE: "{event}, because PersonX wanted to",
        QUALITY: "{event}, because PersonX wanted to be",
        NOUN: "{event}, because PersonX wanted",
    },
    "xNeed": {
        WISH: "{event}, but before that PersonX needed",
        BASE: "{event}, but before that PersonX needed to",
        NOUN: "{event}, but before that PersonX needed",
    },
    "xWant": {
        WISH: "{event}, and then PersonX wants",
        BASE: "{event}, and then PersonX wants to",
        NOUN: "{event}, and then PersonX wants",
    },
    "xEffect": {
        THIRD: "{event}, so PersonX",
        MODAL: "{event}, so PersonX",
        BASE: "{event}, so PersonX may",
        QUALITY: "{event}, so PersonX is",
        CLAUSE: "{event}, and as a result",
    },
    "xReact": {
        QUALITY: "{event}, so PersonX feels",
        OTHER: "{event}, so PersonX feels",
        NOUN: "{event}, so PersonX feels",
        THIRD: "{event}, so PersonX",
        CLAUSE: "{event}, so PersonX feels that",
        WISH: "{event}, so PersonX feels the wish",
    },
    "xAttr": {
        QUALITY: "{event}, so PersonX is seen as being",
        OTHER: "{event}, so PersonX is seen as being",
        NOUN: "{event}, so PersonX is seen as",
        THIRD: "{event}, so PersonX is seen as someone who",
    },
    "oWant": {
        WISH: "{event}, and then {who} {wants}",
        BASE: "{event}, and then {who} {wants} to",
        NOUN: "{event}, and then {who} {wants}",
    },
    "oEffect": {
        THIRD: "{event}, resulting in {one}",
        MODAL: "{event}, so {who}",
        BASE: "{event}, so {who} may",
        QUALITY: "{event}, so {who} {is}",
        CLAUSE: "{event}, and as a result",
    },
    "oReact": {
        QUALITY: "{event}, so {who} {feels}",
        OTHER: "{event}, so {who} {feels}",
        NOUN: "{event}, so {who} {feels}",
        THIRD: "{event}, so {one}",
        CLAUSE: "{event}, so {who} {feels} that",
        WISH: "{event}, so {who} {feels} the wish",
    },
    # ATOMIC-2020's own: events after and before events, and what stands in an event's way.
    "isAfter": {CLAUSE: "{event}, after"},
    "isBefore": {CLAUSE: "{event}, before"},
    "HinderedBy": dict.fromkeys((CLAUSE, NOUN), "{event}, unless"),
    "xReason": {CLAUSE: "{event}, because", WISH: "{event}, because PersonX wants", BASE: "{event}, because PersonX wants to"},
    # Things and people rather than events.
    "ObjectUse": {BASE: "The {event} can be used to", WISH: "The {event} can be used"},
    "AtLocation": dict.fromkeys(Shape, "The {event} can be found at or in the following place:"),
    "CapableOf": {BASE: "The {event} can", QUALITY: "The {event} can be"},
    "HasProperty": {QUALITY: "The {event} {is}", OTHER: "The {event} {is} known for being", NOUN: "The {event} {has}"},
    "MadeUpOf": dict.fromkeys((NOUN, OTHER), "The {event} {is} made up of"),
    "Causes": dict.fromkeys((NOUN, OTHER, QUALITY), "The {event} may cause"),
    "Desires": {WISH: "The {event} may want", BASE: "The {event} may want to", NOUN: "The {event} may want"},
    "NotDesires": {WISH: "The {event} may not want", BASE: "The {event} may not want to", NOUN: "The {event} may not want"},
    "HasSubEvent": {BASE: "To {event}, people may"},
}
"""{relation: {shape: template}}. isFilledBy has none: its events all hold a blank."""


class Participant(NamedTuple):
    """Whom an event touches: `one` is the name before a verb in the third person."""

    who: str
    one: str
    plural: bool

    @classmethod
    def of(cls, event: str) -> "Participant":
        if "PersonY" in event:
            return cls("PersonY", "PersonY", plural=False)
        if "Person" in event:
            return cls("others", "someone else", plural=True)
        # A thing: "pants are", "dress is".
        return cls(event, event, plural=event.endswith("s") and not event.endswith(("ss", "us", "is")))


def prompt_of(event: str, relation: str, tail: str) -> str | None:
    """The prompt that `tail` finishes to a sentence; None where the relation has no words for a tail of this shape. All are cleaned."""
    template = TEMPLATES.get(relation, {}).get(shape_of(tail))
    if template is None:
        return None
    at = Participant.of(event)
    words = {"wants": ("wants", "want"), "feels": ("feels", "feel"), "is": ("is", "are"), "has": ("has", "have")}
    return template.format(event=event, who=at.who, one=at.one, **{name: pair[at.plural] for name, pair in words.items()})
