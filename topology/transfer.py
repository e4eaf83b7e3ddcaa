"""A whole model as lines of JSON: from one store, and into another that is new.

The first line says what it is and holds the meta values, then comes a line an object, and the last line counts them:
a file that was cut off is noticed. Numbers, addresses and leases stay as they are, so that the switches' contents do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from topology import consistent
from topology.documents import DEFAULT_TENANT
from topology.errors import BadRequest, Conflict
from topology.model import KINDS, Change, Object, Tenant
from topology.store import Store
from topology.stored import from_json, to_json

FORMAT = 1


def export_lines(store: Store) -> Iterator[str]:
    """Everything in a store, as of one moment."""
    revision, objects, meta = store.load()
    yield _dump({"netctl": FORMAT, "revision": revision, "meta": meta})
    order = {kind: number for number, kind in enumerate(KINDS)}
    for value in sorted(objects, key=lambda o: (order[o.kind], o.key)):
        yield _dump({"kind": value.kind, "object": to_json(value)})
    yield _dump({"end": len(objects)})


def import_lines(store: Store, lines: Iterable[str]) -> int:
    """Fill a store that is new, by one commit: all of it, or nothing; how many objects."""
    objects, meta = parse(lines)
    check(objects)
    revision, there, _ = store.load()
    more = sorted({o.kind for o in there if (o.kind, o.key) != (Tenant.kind, DEFAULT_TENANT)})
    if more:
        raise Conflict(f"the store is in use: it holds a {', a '.join(more)}; import into a new one")
    before = {(o.kind, o.key): o for o in there}
    changes = [Change(before.pop((o.kind, o.key), None), o) for o in objects]
    changes += [Change(o, None) for o in before.values()]
    store.commit(revision, [c for c in changes if c.before != c.after], meta)
    return len(objects)


def parse(lines: Iterable[str]) -> tuple[list[Object], dict[str, Any]]:
    """The objects and meta values that `export_lines` wrote; BadRequest names the line that can't be."""
    objects: list[Object] = []
    meta: dict[str, Any] = {}
    ended = False
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if number == 1:
                if line["netctl"] != FORMAT:
                    raise BadRequest(f"line 1: format {line['netctl']} is not known, only {FORMAT}")
                meta = dict(line["meta"])
            elif ended:
                raise ValueError("there is more after the end")
            elif "end" in line:
                ended = line["end"] == len(objects)
                if not ended:
                    raise ValueError(f"{line['end']} objects were written, {len(objects)} are here")
            else:
                objects.append(from_json(line["kind"], line["object"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{error} is missing or not known" if isinstance(error, KeyError) else error
            raise BadRequest(f"line {number}: not what netctl exports: {why}") from error
    if not ended:
        raise BadRequest("the last line is missing: the export was cut off")
    return objects, meta


def check(objects: Iterable[Object]) -> None:
    """Conflict: no model can hold these objects."""
    objects = list(objects)
    consistent.check(objects)
    if all((o.kind, o.key) != (Tenant.kind, DEFAULT_TENANT) for o in objects):
        raise Conflict(f"tenant {DEFAULT_TENANT} is not there")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
