"""The store in etcd: for several controllers.

Under the prefix, with N a revision of ours in 16 digits of hexadecimal:

    state                {"format": 1, "revision": N}: every commit compares it and replaces it
    log/N                one commit, {"by": token, "changes": […], "meta": {…}}; a large one {"by": token, "parts": n}
    part/N/token/i       the text of a large one, written before its log entry and worth nothing without it
    objects/KIND/KEY     objects, and
    meta/NAME            meta values, both as of the revision that
    folded               names; what the log says after it counts on top of them

So a commit is one small transaction however many objects it changes: etcd takes 128 operations and 1.5 MiB at a time.
Now and then the log is folded into the objects, by as many transactions as that takes. Each of them replaces ``folded``
and compares that nobody else has since: two that fold at once, or one that wakes from a long sleep, can't mix. One that
dies half way has done no harm, as the log still says all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from topology.etcd import (
    Etcd,
    EtcdRefused,
    NotSent,
    Tls,
    after_all,
    b64,
    delete,
    parse_url,
    put,
    range_in,
    read,
    value_of,
)
from topology.model import Change, Commit, Object
from topology.store import StaleRevision, StoreUnavailable, StoreUnusable
from topology.stored import from_json, to_json

LOG = logging.getLogger(__name__)

FORMAT = 1
KEPT_REVISIONS = 2_000  # for who was away; etcd is for small data
FOLD_EVERY = 64  # commits
PART_BYTES = 256 * 1024
LARGE_BYTES = 4 * 1024 * 1024  # of a commit that is folded at once: an import
BATCH_OPERATIONS = 100  # of the 128 that etcd takes
PAGE_OBJECTS, PAGE_LOG, PAGE_PARTS = 1000, 50, 4
COMMIT_SECONDS = 5.0  # until it must be known what became of one
PAUSE_SECONDS = 0.1  # before a commit is sent again, while a member is being replaced by another
DIGITS = 18  # of a revision
NONSENSE = (ValueError, TypeError, RecursionError)
LOADS = 5  # attempts, when etcd compacts what is just being read


class EtcdStore:
    """One prefix of one etcd. Any number of these may write to it."""

    def __init__(
        self, url: str, tls: Tls | None = None, kept_revisions: int = KEPT_REVISIONS, *, make: bool = True
    ) -> None:
        self._etcd = Etcd(parse_url(url), tls)
        self._at = self._etcd.prefix
        self._name = str(self._etcd.url)
        self._kept = kept_revisions
        self._doubt = False  # whether the last request failed
        try:
            self._open(make)
        except BaseException:
            self._etcd.close()
            raise

    @property
    def etcd(self) -> Etcd:
        """The connection, for an election in the same place."""
        return self._etcd

    def load(self) -> tuple[int, list[Object], dict[str, Any]]:
        """Everything: the revision, all objects, all meta values."""
        for _ in range(LOADS):
            try:
                return self._load()
            except EtcdRefused as error:
                if "compacted" not in str(error):
                    raise
        raise StoreUnavailable(f"store {self._name} is compacted faster than it can be read")

    def commit(self, expected: int, changes: Sequence[Change], meta: Mapping[str, Any]) -> int:
        """Write all of it or nothing; returns the new revision."""
        revision, token = expected + 1, uuid.uuid4().hex
        entry = {"by": token, "changes": [_change_json(c) for c in changes], "meta": dict(meta)}
        text = _dump(entry)
        with self._watched():
            if self._doubt:
                self._state()  # so that a write is refused without having been sent
            large = len(text) > LARGE_BYTES
            if len(text) > PART_BYTES:
                parts = [text[at : at + PART_BYTES] for at in range(0, len(text), PART_BYTES)]
                for number, part in enumerate(parts):
                    self._etcd.txn([], [put(f"{self._part(revision)}{token}/{number:04x}", part)])
                text = _dump({"by": token, "parts": len(parts)})
            folded = self._write(expected, token, text)
            if large or revision - folded >= min(FOLD_EVERY, self._kept):
                try:
                    self._fold()
                except StoreUnavailable as error:
                    LOG.debug("%s; the next commit folds", error)
                except StoreUnusable as error:
                    LOG.error("%s; changes are stored, but no controller can start on it", error)
        return revision

    def changes_since(self, revision: int) -> list[Commit] | None:
        """The commits after a revision; None: compacted, or in the future."""
        with self._watched():
            current, at = self._state()
            if revision > current or revision < max(0, current - self._kept):
                return None
            try:
                entries = list(self._entries(revision, current, at))
            except EtcdRefused as error:
                if "compacted" in str(error):
                    return None
                raise
        if [number for number, _ in entries] != list(range(revision + 1, current + 1)):
            return None
        return [Commit(number, tuple(self._changes(number, entry))) for number, entry in entries]

    def watch(self, silence: float) -> Iterator[int]:
        """Yields once it watches (0), then each revision as it is made; ends when nothing comes for so many seconds."""
        for value in self._etcd.watch(f"{self._at}/state", silence):
            yield self._revision(value) if value else 0

    def close(self) -> None:
        """Let go of the connections."""
        self._etcd.close()

    # parts

    def _open(self, make: bool) -> None:
        key = f"{self._at}/state"
        if self._etcd.get(key)[0] is None:
            everything = {"key": b64(f"{self._at}/"), "range_end": b64(after_all(f"{self._at}/")), "limit": 1}
            if self._etcd.post("/kv/range", everything).get("kvs"):
                raise StoreUnusable(
                    f"store {self._name} holds another program's keys, or remains of ours; give another prefix"
                )
            if not make:
                raise StoreUnusable(f"store {self._name} can't be opened: there is none")
            absent = {"key": b64(key), "target": "CREATE", "create_revision": 0}
            self._etcd.txn([absent], [put(key, _state(0)), put(f"{self._at}/folded", "0")])
        self._state()

    def _state(self) -> tuple[int, int]:
        """Our revision, and etcd's own when it was read."""
        value, at = self._etcd.get(f"{self._at}/state")
        return self._revision(value), at

    def _revision(self, value: bytes | None) -> int:
        if value is None:
            raise StoreUnusable(f"store {self._name} is gone: somebody has deleted it")
        try:
            state = json.loads(value)
            made, revision = state["format"], state["revision"]
            if type(made) is not int or type(revision) is not int or made < 1 or revision < 0:
                raise ValueError("no numbers")
        except (*NONSENSE, KeyError) as error:
            raise StoreUnusable(f"store {self._name} is another program's: its state can't be read") from error
        if made > FORMAT:
            raise StoreUnusable(
                f"store {self._name} was made by a newer version: it has format {made}, this version knows {FORMAT}"
            )
        return revision

    def _load(self) -> tuple[int, list[Object], dict[str, Any]]:
        with self._watched():
            revision, at = self._state()
            found = self._laid_down(at)
            folded = self._folded(found.pop("folded", None))
            numbers = set(range(folded + 1, revision + 1))
            for number, entry in self._entries(folded, revision, at):
                numbers.discard(number)
                found.update(self._effects(entry))
        if numbers:
            raise self._broken(f"revision {min(numbers)}", "it is missing")
        objects, meta = [], {}
        for name, text in found.items():
            kind, _, rest = name.partition("/")
            if text is None:
                continue
            if kind == "meta":
                meta[rest] = self._json(text, name)
                continue
            value = self._decode(rest.partition("/")[0], text, rest.replace("/", " ", 1))
            if f"{value.kind}/{value.key}" != rest:
                raise self._broken(rest.replace("/", " ", 1), f"it is {value.key}")
            objects.append(value)
        return revision, objects, meta

    def _laid_down(self, at: int) -> dict[str, str | None]:
        """Keys, without the prefix, and values of all that is folded."""
        start = len(self._at) + 1
        found: dict[str, str | None] = {}
        for area in ("folded", "meta/", "objects/"):
            key = f"{self._at}/{area}"
            for name, value in self._etcd.pages(key, after_all(key), at, PAGE_OBJECTS):
                try:
                    found[name[start:]] = value.decode()
                except UnicodeDecodeError as error:
                    raise self._broken(name, "it is not UTF-8") from error
        return found

    def _folded(self, text: str | None) -> int:
        if text is None:
            raise self._broken("folded", "it is missing")
        if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
            raise self._broken("folded", "it is no revision")
        return int(text)

    def _entries(self, after: int, last: int, at: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The commits after a revision, as they were written; ``at`` is a revision of etcd's own."""
        start, end = f"{self._log(after + 1)}", f"{self._log(last + 1)}"
        if last <= after:
            return
        for key, value in self._etcd.pages(start, end, at, PAGE_LOG):
            try:
                number = int(key.rpartition("/")[2], 16)
            except ValueError as error:
                raise self._broken(key, "it is no revision's") from error
            yield number, self._whole(number, value, at)

    def _whole(self, number: int, value: bytes, at: int) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(value)
            if "parts" in entry:
                if type(entry["by"]) is not str:
                    raise ValueError("by: it is no text")
                start = f"{self._part(number)}{entry['by']}/"
                parts = [part for _, part in self._etcd.pages(start, after_all(start), at, PAGE_PARTS)]
                if len(parts) != entry["parts"]:
                    raise ValueError(f"{len(parts)} of {entry['parts']} parts are there")
                entry = json.loads(b"".join(parts))
            _check(entry)
        except KeyError as error:
            raise self._broken(f"revision {number}", f"{error} is missing") from error
        except NONSENSE as error:
            raise self._broken(f"revision {number}", error) from error
        return entry

    def _write(self, expected: int, token: str, text: str) -> int:
        """The transaction that makes a commit. Sent again until it is known what became of it; returns ``folded``."""
        key, entry = f"{self._at}/state", self._log(expected + 1)
        compare = [{"key": b64(key), "target": "VALUE", "value": b64(_state(expected))}]
        success = [put(key, _state(expected + 1)), put(entry, text), read(f"{self._at}/folded")]
        until = time.monotonic() + COMMIT_SECONDS
        unknown = False
        while True:
            try:
                done, answers, _ = self._etcd.txn(compare, success, [read(key), read(entry)])
                break
            except (NotSent, EtcdRefused):
                if not unknown:
                    raise
            except StoreUnavailable:
                unknown = True
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"store {self._name} does not answer: it is not known whether the change was made; "
                    "look before you do it again"
                )
            time.sleep(PAUSE_SECONDS)
        if done:
            with self._etcd.understood():
                folded = value_of(range_in(answers[2]))
            with contextlib.suppress(StoreUnusable):
                return self._folded("0" if folded is None else folded.decode(errors="replace"))
            return expected  # whoever folds next will say what is wrong
        with self._etcd.understood():
            state, there = value_of(range_in(answers[0])), value_of(range_in(answers[1]))
        found = self._revision(state)
        if there is not None and f'"by":"{token}"'.encode() in there:
            return expected  # it was done, and the answer lost
        with contextlib.suppress(StoreUnavailable):
            start = f"{self._part(expected + 1)}{token}/"
            self._etcd.txn([], [delete(start, after_all(start))])
        raise StaleRevision(f"the store is at revision {found}, not {expected}: another program has written to it")

    def _fold(self) -> None:
        """Write the log's effects to the objects; give up if somebody else does."""
        key = f"{self._at}/folded"
        revision, at = self._state()
        answer = self._etcd.post("/kv/range", {"key": b64(key), "revision": at})
        with self._etcd.understood():
            value, modified = value_of(answer), int(answer["kvs"][0]["mod_revision"])
        folded = self._folded(None if value is None else value.decode(errors="replace"))
        effects: dict[str, str | None] = {}
        for _, entry in self._entries(folded, revision, at):
            effects.update(self._effects(entry))
        for batch in _batches(effects):
            keys = ((f"{self._at}/{name}", text) for name, text in batch)
            operations = [delete(name) if text is None else put(name, text) for name, text in keys]
            done, _, modified = self._replace(key, modified, str(folded), operations)
            if not done:
                return
        gone = max(0, min(revision, revision - self._kept))
        trim = [delete(f"{self._at}/{area}/{0:016x}", f"{self._at}/{area}/{gone + 1:016x}") for area in ("log", "part")]
        self._replace(key, modified, str(revision), trim)

    def _replace(
        self, key: str, modified: int, value: str, operations: Sequence[Mapping[str, Any]]
    ) -> tuple[bool, list[dict[str, Any]], int]:
        compare = {"key": b64(key), "target": "MOD", "mod_revision": modified}
        return self._etcd.txn([compare], [put(key, value), *operations])

    @staticmethod
    def _effects(entry: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
        for change in entry["changes"]:
            after = change["after"]
            yield f"objects/{change['kind']}/{change['key']}", None if after is None else _dump(after)
        for name, value in entry["meta"].items():
            yield f"meta/{name}", None if value is None else _dump(value)

    def _changes(self, number: int, entry: Mapping[str, Any]) -> Iterator[Change]:
        for change in entry["changes"]:
            values = (change["before"], change["after"])
            before, after = (v and self._decode(change["kind"], v, f"revision {number}") for v in values)
            yield Change(before, after)

    def _decode(self, kind: str, data: Any, name: str) -> Object:
        document = self._json(data, name) if isinstance(data, str) else data
        try:
            return from_json(kind, document)
        except ValueError as error:
            raise self._broken(name, error) from error

    def _json(self, text: str, name: str) -> Any:
        try:
            return json.loads(text)
        except NONSENSE as error:
            raise self._broken(name, error) from error

    def _broken(self, what: str, why: object) -> StoreUnusable:
        told = " ".join(str(why).split())[:200]
        return StoreUnusable(f"store {self._name}: {what} can't be read: {told}")

    def _log(self, revision: int) -> str:
        return f"{self._at}/log/{revision:016x}"

    def _part(self, revision: int) -> str:
        return f"{self._at}/part/{revision:016x}/"

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Notes whether etcd answers."""
        doubt = False
        try:
            yield
        except StoreUnavailable as error:
            doubt = not isinstance(error, EtcdRefused)
            raise
        finally:
            self._doubt = doubt


def _check(entry: Any) -> None:
    """ValueError: a log entry is not made as one."""
    if not isinstance(entry, dict) or not isinstance(entry["changes"], list) or not isinstance(entry["meta"], dict):
        raise ValueError("it is no list of changes")
    for change in entry["changes"]:
        if not isinstance(change, dict) or not isinstance(change["kind"], str) or not isinstance(change["key"], str):
            raise ValueError("one of its changes is none")
        if (change["before"] or change["after"]) is None:
            raise ValueError("one of its changes has neither a before nor an after")


def _state(revision: int) -> str:
    return _dump({"format": FORMAT, "revision": revision})


def _change_json(change: Change) -> dict[str, Any]:
    before, after = (None if v is None else to_json(v) for v in (change.before, change.after))
    return {"kind": change.kind, "key": change.key, "before": before, "after": after}


def _batches(effects: Mapping[str, str | None]) -> Iterator[list[tuple[str, str | None]]]:
    batch: list[tuple[str, str | None]] = []
    size = 0
    for name, text in effects.items():
        size += len(name) + len(text or "")
        if batch and (len(batch) == BATCH_OPERATIONS or size > PART_BYTES):
            yield batch
            batch, size = [], len(name) + len(text or "")
        batch.append((name, text))
    if batch:
        yield batch


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
