"""`liverank init`: a commented liverank.toml for a folder, guessed from its files, and what is unsure in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from online_learning.folder.description import CONFIG_FILE, FIELDS, RECALLED, FolderError, parse_config
from online_learning.folder.files import log_files
from online_learning.folder.samples import ColumnSample, samples_of
from online_learning.folder.written import schema_text, toml_key, toml_value
from ranker.contracts.schema import MAX_ACTIONS, Action, CandidateFeature, ContextField, FeatureSchema, Normalise

#: field -> what others call it, in lower case and without signs.
_CALLED: dict[str, tuple[str, ...]] = {
    "user_id": ("userid", "user", "uid", "visitorid", "visitor", "customerid", "customer", "memberid", "accountid"),
    "session_id": ("sessionid", "session", "sess", "visitid", "visit"),
    "item_id": ("itemid", "item", "sku", "productid", "product", "articleid", "article", "movieid", "hotelid"),
    "action": ("action", "event", "eventtype", "actiontype", "eventname", "type", "kind", "behavior", "behaviour"),
    "ts": ("ts", "timestamp", "time", "datetime", "eventtime", "createdat", "date", "seconds", "at", "when"),
    "request_id": ("requestid", "request", "listid", "impressionid", "searchid", "search", "queryid", "slateid"),
    "event_id": ("eventid", "interactionid"),
    "position": ("position", "rank", "slot", "pos"),
    "value": ("value", "rating", "amount"),
    "items": ("items", "itemids", "impressions", "shown", "candidates", "skus", "products", "productids"),
    "score": ("score",),
    "title": ("title", "name", "productname", "itemname"),
    "text": ("text", "description", "body", "summary"),
    "category": ("category", "categoryid", "genre", "cat", "producttype"),
    "tags": ("tags", "genres", "keywords", "labels"),
    "published_at": ("publishedat", "published", "releasedate", "createdat"),
}  # fmt: skip
_VIEWS = ("view", "look", "seen", "detail", "browse", "pv", "impression")
_CLICKS = ("click", "select", "tap", "open")
_WANTED = re.compile(r"click|purchas|buy|bought|order|transact|cart|like|book|rent|play|subscri|download|save|favo")
_UNDONE = re.compile(r"remov|delet|cancel|refund|return|abandon|dislike|un(like|subscri|book|save|favo)")


def looks_wanted(action: str) -> bool:
    """Whether an action's name is of what people are wanted to do, and not of what takes that back."""
    return bool(_WANTED.search(action.lower())) and not _UNDONE.search(action.lower())


class Guess(Struct, frozen=True):
    """A liverank.toml, and what to look at in it."""

    text: str
    unsure: tuple[str, ...]


def write_guess(folder: Path, force: bool = False) -> Guess:
    """Write a liverank.toml into a folder, which is made where there is none.

    Raises:
        FolderError: there is such a file already, and `force` is not set; or it cannot be written.
    """
    path = folder / CONFIG_FILE
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file; give the folder that holds it")
    if path.exists() and not force:
        raise FolderError(f"{path} is there already; --force writes over it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        guess = guess_config(folder)
        path.write_text(guess.text, encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror}; give a folder that can") from error
    return guess


def guess_config(folder: Path) -> Guess:
    """What a folder's files are called and hold, as far as their first lines say.

    Raises:
        FolderError: a file is no table.
    """
    files = log_files(folder)
    if not files:
        return Guess(_DEFAULT, ("there are no files yet: this is the default, for views and clicks",))
    guesser = _Guesser()
    tables = [guesser.table(kind, samples_of(paths)) for kind, paths in files.items()]
    lists = "candidates" in files or "impressions" in files
    if guesser.features:
        named = ", ".join(feature.name for feature in guesser.features)
        guesser.unsure.append(f"known when a list is shown are taken to be {named}: take out what comes of it later")
    features = tuple(guesser.features) if lists else (_SCORE,)
    schema = FeatureSchema(
        actions=guesser.actions(), candidate_features=features, context=tuple(guesser.context),
        item_numeric=tuple(guesser.numeric),
    )  # fmt: skip
    recalled = "" if lists else f"[data]\nrecall = {RECALLED}  # no lists are logged: so many items are recalled\n\n"
    recipe = "" if lists else "\n[recipe]\nneighbours = 64  # recall goes by what followed what\n"
    text = f"{_HEAD}{recalled}{''.join(tables)}{_ABOUT_SCHEMA}{schema_text(schema)}{recipe}"
    parse_config(tomllib.loads(text), CONFIG_FILE)  # what is written can be read
    return Guess(text, tuple(guesser.unsure))


_SCORE = CandidateFeature(name="score", normalise=(Normalise.NONE, Normalise.LIST_RANK))
_HEAD = """\
# Guessed by `liverank init` from the first lines of each file: look it over, then `liverank data check` this folder.
# docs/data.md says what every key means.

"""
_ABOUT_SCHEMA = """\
# What is learned. `positive` actions are predicted; `weight` is what one counts for in a score (1). The first two
# actions are always view and click; append new ones.
"""
_DEFAULT = f"""\
# A log's folder: put interactions.csv (user_id, item_id, action, ts) here, and as far as you have them candidates,
# items and users. docs/data.md says what every key means.

# [data]                          # what your columns are called
# item_id = "sku"
# ts = {{ column = "time", time = "s" }}

{_ABOUT_SCHEMA}[schema]

[[schema.actions]]
name = "view"

[[schema.actions]]
name = "click"
positive = true

# [[schema.candidate_features]]   # a number that candidates carry
# name = "price"
# normalise = ["list-log", "list-rank"]

# [recipe]                        # how it is learned
# epochs = 8
"""


class _Guesser:
    """Guesses file by file, and gathers the schema from all of them."""

    def __init__(self) -> None:
        self.unsure: list[str] = []
        self.features: list[CandidateFeature] = []
        self.context: list[ContextField] = []
        self.numeric: list[str] = []
        self._found: dict[str, bool] = {}  # action -> positive
        self._taken: set[str] = set()  # `features.price` and the like, of the table that is made

    def actions(self) -> tuple[Action, ...]:
        """View and click, then what else there is, the most frequent first."""
        names = list(dict.fromkeys(("view", "click", *self._found)))[:MAX_ACTIONS]
        if not any(self._found.get(name, False) for name in names):
            name = next((name for name in reversed(names) if name in self._found), "click")
            self._found[name] = True
            self.unsure.append(f"no action looks positive: {name} is taken to be what people are wanted to do")
        return tuple(Action(name=name, positive=self._found.get(name, False)) for name in names)

    def table(self, kind: str, columns: list[ColumnSample]) -> str:
        """`[data.KIND]`."""
        self._taken.clear()
        taken = {field: column for field in FIELDS[kind] if (column := _column_for(field, columns)) is not None}
        if "user_id" in taken:
            taken.pop("session_id", None)
        for field in ("user_id", "item_id"):
            if field in FIELDS[kind] and not {field, "session_id", "items"} & set(taken):
                self.unsure.append(f"no column of {kind} looks like {field}: name it in [data.{kind}]")
        lines = list(self._plain(kind, taken))
        rest = [column for column in columns if column.name not in {found.name for found in taken.values()}]
        lines += getattr(self, f"_{kind}")(taken, rest)
        return "".join([f"[data.{kind}]\n", *(f"{line}\n" for line in lines), "\n"])

    def _plain(self, kind: str, taken: dict[str, ColumnSample]) -> Iterator[str]:
        for field, column in taken.items():
            if field in ("ts", "published_at"):
                unit = column.time
                if unit is None:
                    self.unsure.append(f"{column.name} of {kind} does not look like a time: check {field}")
                same = f"{{ column = {toml_value(column.name)}, time = {toml_value(unit or 'ms')} }}"
                yield f"{field} = {same}"
            elif field in ("items", "tags"):
                mark = None if column.json else column.separator()
                named = {"column": column.name, **({"separator": mark} if mark else {})}
                yield f"{field} = {toml_value(named)}"
            elif field not in ("action", column.name):
                yield f"{field} = {toml_value(column.name)}"
        if "ts" in FIELDS[kind] and "ts" not in taken:
            self.unsure.append(f"no column of {kind} looks like a time: the order of rows stands for it")

    def _interactions(self, taken: dict[str, ColumnSample], rest: list[ColumnSample]) -> Iterator[str]:
        column = taken.get("action")
        if column is None:
            self._found["click"] = True
            self.unsure.append("interactions have no column of actions: each is taken for a click")
            yield 'action = { value = "click" }'
        else:
            yield f"action = {toml_value(self._action(column))}  # {_counted(column)}"
        if rest:
            yield _not_used(*rest)

    def _action(self, column: ColumnSample) -> dict[str, Any]:
        values = [value for value, _ in column.counts.most_common()]
        names: dict[str, str] = {}
        for own, words in (("view", _VIEWS), ("click", _CLICKS)):
            like = next((value for value in values if any(word in value.lower() for word in words)), None)
            if own not in values and like is not None and like not in names:
                names[like] = own
        for value in values:
            name = names.get(value, value)
            self._found[name] = looks_wanted(name)
        if len(values) > MAX_ACTIONS - 2:
            self.unsure.append(
                f"{column.name} has {len(values)} values, more than the {MAX_ACTIONS} actions of a schema"
            )
        positive = [name for name, wanted in self._found.items() if wanted]
        self.unsure.append(f"positive are taken to be {', '.join(positive) or 'none'}, of {_counted(column)}")
        return {"column": column.name, **({"map": names} if names else {})}

    def _candidates(self, taken: dict[str, ColumnSample], rest: list[ColumnSample]) -> Iterator[str]:
        if "items" not in taken:
            yield from self._rows(rest)
            return
        mark = None if taken["items"].json else taken["items"].separator()
        for column in rest:
            if column.json or (mark and any(mark in value for value in column.counts)):
                parted = {"column": column.name, **({"separator": mark} if mark else {})}
                yield from self._feature(column, parted, positive=True)
            else:
                yield from self._moment(column, "context")

    def _rows(self, rest: list[ColumnSample]) -> Iterator[str]:
        for column in rest:
            if column.numeric and not column.name.startswith("context."):
                yield from self._feature(column, column.name, positive=column.non_negative)
            else:
                yield from self._moment(column, "context")

    def _impressions(self, taken: dict[str, ColumnSample], rest: list[ColumnSample]) -> Iterator[str]:
        del taken
        left = []
        for column in rest:
            name = _short(column.name, "actions").lower()
            if not column.flags or not _WANTED.search(name):
                left.append(column)
                continue
            wanted = looks_wanted(name)
            if wanted and "actions.click" not in self._taken and any(word in name for word in _CLICKS):
                name = "click"
            if self._free(f"actions.{name}"):
                self._found[name] = wanted
                yield f"actions.{toml_key(name)} = {toml_value(column.name)}"
            else:
                yield _not_used(column)
        if not self._found:
            self.unsure.append("no column of impressions looks like a flag of an action: name them as actions.click")
        yield from self._rows(left)

    def _items(self, taken: dict[str, ColumnSample], rest: list[ColumnSample]) -> Iterator[str]:
        del taken
        for column in rest:
            name = _short(column.name, "numeric")
            if column.numeric and self._free(f"numeric.{name}"):
                if name not in self.numeric:
                    self.numeric.append(name)
                yield f"numeric.{toml_key(name)} = {toml_value(column.name)}"
            else:
                yield _not_used(column)

    def _users(self, taken: dict[str, ColumnSample], rest: list[ColumnSample]) -> Iterator[str]:
        del taken
        for column in rest:
            yield from self._moment(column, "attributes")

    def _moment(self, column: ColumnSample, group: str) -> Iterator[str]:
        """A field of the context, or of the user: one-hot where its values are few, else a number."""
        name = _short(column.name, group)
        if not column.few and not column.numeric:
            yield f"{_not_used(column)}, which has too many values, or one"
            return
        if not self._free(f"{group}.{name}"):
            yield _not_used(column)
            return
        values = () if column.numeric and not column.few else tuple(sorted(column.counts))
        if name not in {field.name for field in self.context}:
            self.context.append(ContextField(name=name, values=() if column.numeric else values))
        yield f"{group}.{toml_key(name)} = {toml_value(column.name)}"

    def _feature(self, column: ColumnSample, source: Any, positive: bool) -> Iterator[str]:
        name = _short(column.name, "features")
        if not self._free(f"features.{name}"):
            yield _not_used(column)
            return
        if name not in {feature.name for feature in self.features}:
            self.features.append(feature_named(name, positive))
        yield f"features.{toml_key(name)} = {toml_value(source)}"

    def _free(self, key: str) -> bool:
        """Whether no column of the table has this name yet: it is taken then."""
        free = key not in self._taken
        self._taken.add(key)
        return free


def feature_named(name: str, positive: bool) -> CandidateFeature:
    """A candidate feature of which no more is known than whether none of its numbers is below 0."""
    return CandidateFeature(
        name=name, normalise=(Normalise.LIST_LOG, Normalise.LIST_RANK) if positive else (Normalise.LIST,)
    )


def _column_for(field: str, columns: list[ColumnSample]) -> ColumnSample | None:
    """The column of the field's name, else the one whose name stands first among what others call it."""
    plain = {re.sub(r"[^a-z0-9]", "", column.name.lower()): column for column in reversed(columns)}
    own = next((column for column in columns if column.name == field), None)
    return own or next((plain[name] for name in _CALLED.get(field, ()) if name in plain), None)


def _short(name: str, group: str) -> str:
    return name.removeprefix(f"{group}.")


def _counted(column: ColumnSample) -> str:
    return _one_line(", ".join(f"{value} ({count})" for value, count in column.counts.most_common(8)))


def _not_used(*columns: ColumnSample) -> str:
    return f"# not used: {_one_line(', '.join(column.name for column in columns))}"


def _one_line(text: str) -> str:
    """What a comment may hold: names of columns, too, go over several lines where a spreadsheet breaks them."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
