"""A small ATOMIC in both families of forms; tails are made up."""

import csv
import io
import json

HEADER = ["event", "oEffect", "oReact", "oWant", "xAttr", "xEffect", "xIntent", "xNeed", "xReact", "xWant", "prefix", "split"]
VERBS = "bakes bread,buys a boat,calls a doctor,paints PersonY's fence,loses PersonX's wallet,meets PersonY,sings loudly"
SAID = {
    "xIntent": ["to rest for {i} days", "be alone in room {i}"],
    "xNeed": ["to find {i} coins", "buy {i} tickets"],
    "xWant": ["to go home by road {i}"],
    "oWant": ["to thank PersonX {i} times", "a gift number {i}"],
    "xEffect": ["gets {i} letters", "is tired"],
    "oEffect": ["shakes PersonX hand {i} times", "laugh at joke {i}"],
    "xReact": ["happy about deal {i}"],
    "oReact": ["grateful for help {i}"],
    "xAttr": ["generous number {i}"],
}


def row(event="PersonX bakes bread", **tails) -> dict:
    """One annotator's row: lists are written as JSON, what is not given is []."""
    row = {name: json.dumps(tails.get(name, [])) if name[0] in "ox" else "" for name in HEADER}
    return {**row, "event": event, "prefix": "[]", "split": "tst"}


def v4(rows) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, HEADER)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def small() -> list[dict]:
    """28 events with tails of all nine relations, none shared."""
    events = [f"PersonX {verb} {when}" for verb in VERBS.split(",") for when in ("today", "yesterday", "in spring", "by night")]
    return [
        row(event, **{name: [text.format(i=f"{i}{len(name)}") for text in texts] for name, texts in SAID.items()})
        for i, event in enumerate(events)
    ]
