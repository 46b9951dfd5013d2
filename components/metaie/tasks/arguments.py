"""Arguments of a trigger or a predicate, gathered by role."""

from collections.abc import Iterable

from .schema import Found, Part
from .structures import Argument


def gather_arguments(
    anchors: Iterable[Found], parts: Iterable[Part]
) -> list[tuple[Found, dict[str, list[Argument]]]]:
    """Each anchor with its arguments by role, the anchors from left to right."""
    gathered: dict[tuple[int, int, str], tuple[Found, dict[str, list[Argument]]]] = {
        (anchor.span.start, anchor.span.end, anchor.span.label_): (anchor, {})
        for anchor in sorted(anchors, key=lambda anchor: (anchor.span.start, anchor.span.end))
    }
    for part in parts:
        anchor = part.anchor.span
        _, arguments = gathered[anchor.start, anchor.end, anchor.label_]
        arguments.setdefault(part.name, []).append(Argument(part.span, part.score))
    return list(gathered.values())
