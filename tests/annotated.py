"""A text annotated for all families, and a schema of each."""

from metaie.convert import make_tokenizer

NLP = make_tokenizer("en")

ROW = {
    "tokens": ["Ada", "works", "for", "IBM", "and", "Bob", "praises", "its", "good", "lab", "."],
    "spans": [
        {"start": 0, "end": 1, "label": "person"},
        {"start": 3, "end": 4, "label": "company"},
        {"start": 5, "end": 6, "label": "person"},
        {"start": 1, "end": 2, "label": "employment"},
        {"start": 6, "end": 7, "label": "predicate"},
        {"start": 9, "end": 10, "label": "positive aspect"},
        {"start": 8, "end": 9, "label": "opinion"},
    ],
    "relations": [{"head": 0, "tail": 1, "label": "works for"}],
    "events": [
        {
            "trigger": 3,
            "label": "employment",
            "arguments": [{"span": 0, "role": "employee"}, {"span": 1, "role": "employer"}],
        }
    ],
    "frames": [
        {
            "predicate": 4,
            "arguments": [{"span": 2, "role": "agent"}, {"span": 5, "role": "patient"}],
        }
    ],
    "triplets": [{"aspect": 5, "opinion": 6, "polarity": "positive"}],
}

SCHEMAS: dict[str, dict[str, object]] = {
    "entities": {"family": "entities", "entities": ["person", "company"]},
    "relations": {
        "family": "relations",
        "entities": ["person", "company"],
        "relations": ["works for: person -> company", "knows: person -> person"],
    },
    "events": {
        "family": "events",
        "events": [{"type": "employment", "roles": ["employee", "employer", "salary"]}],
    },
    "roles": {"family": "roles", "roles": ["agent", "patient", "time"]},
    "aspects": {"family": "aspects"},
    "triplets": {"family": "triplets"},
}
