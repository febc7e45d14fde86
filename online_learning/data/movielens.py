"""MovieLens 100K and 1M: films with titles and genres, and who watched what, in order, without lists.

100K: a rating of 4 or 5 is a `like`, of 3 a `view`, below that a `dislike`, and stands in `value`. Its times are of
1997 and 1998, which `ranker.contracts.decoding` takes for mistaken units: shift them where they are to pass a broker.

1M: sequences alone, in the form that the papers on SASRec share, in which ratings and times are gone. Every film is a
`click`. A film's place in its user's sequence stands for the time, one second apart from a common start, so that all
users advance abreast; nothing may be read into these times but the order within one user.

Source: F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", TiiS 5(4), 2015. GroupLens'
terms forbid redistribution.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from online_learning.data.dataset import DataSet, DataSetError, LogRecord, arrivals, read_table
from ranker.contracts.records import Interaction, Item
from ranker.contracts.schema import Action, FeatureSchema

#: Both forms that 100K is published in: GroupLens' own and RecBole's. Ratings, then films.
FORMS = (("u.data", "u.item"), ("ml-100k.inter", "ml-100k.item"))
#: The columns of flags in GroupLens' `u.item`.
GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
SCHEMA_100K = FeatureSchema(
    actions=(
        Action(name="view"),
        Action(name="click"),
        Action(name="like", positive=True),
        Action(name="dislike"),
    )
)
#: Where the made-up times of 1M begin: when the real ones did, 25 April 2000.
START_1M = int(datetime(2000, 4, 25, tzinfo=UTC).timestamp() * 1000)
COLUMNS_1M: dict[str, pl.DataType] = {"user_id": pl.String(), "position": pl.Int64(), "item_id": pl.String()}
ITEMS_1M = "ml-1m-items.tsv"
_YEAR = re.compile(r"\((\d{4})\)\s*$")


def records_100k(path: Path) -> Iterator[LogRecord]:
    """Every film, then the ratings in order of time.

    Args:
        path: a folder or a zip file with `u.data` and `u.item`, or with `ml-100k.inter` and `ml-100k.item`.

    Raises:
        DataSetError: it holds neither form, or a line cannot be read.
    """
    ratings, films = _two_files(path)
    try:
        yield from map(_film_100k, films[1:] if films[0].startswith("item_id:") else films)
        numbers = [
            line.rstrip("\r\n").split("\t") for line in (ratings[1:] if ratings[0].startswith("user_id:") else ratings)
        ]
        log = sorted((int(float(ts)) * 1000, user, item, float(rating)) for user, item, rating, ts in numbers)
    except (ValueError, IndexError) as error:
        raise DataSetError(f"{path} has a line of another form: {error}; wanted are the files {_wanted()}") from error
    yield from arrivals(
        Interaction(user_id=user, item_id=item, action=_action(rating), event_id=f"{user}-{item}", ts=ts, value=rating)
        for ts, user, item, rating in log
    )


def _action(rating: float) -> str:
    if rating >= 4:
        return "like"
    return "view" if rating >= 3 else "dislike"


def _wanted() -> str:
    return " or ".join(f"{ratings} and {films}" for ratings, films in FORMS)


def _two_files(path: Path) -> tuple[list[str], list[str]]:
    """The lines of the ratings and of the films, from a folder or a zip file in either form."""
    try:
        for form in FORMS:
            found = [_content(path, name) for name in form]
            if found[0] and found[1]:
                # GroupLens' own file of films is in Latin-1, the others in UTF-8 or plain ASCII.
                ratings, films = found[0].decode(), found[1].decode("latin-1" if form == FORMS[0] else "utf-8")
                return list(io.StringIO(ratings)), list(io.StringIO(films))
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataSetError(f"{path} cannot be read ({error}); wanted are the files {_wanted()}") from error
    raise DataSetError(f"{path} is no MovieLens-100K; give a folder or a zip file that holds {_wanted()}")


def _content(path: Path, name: str) -> bytes | None:
    if path.is_dir():
        found = next(iter(sorted(path.rglob(name))), None)
        return found.read_bytes() if found else None
    with zipfile.ZipFile(path) as archive:
        member = next((member for member in sorted(archive.namelist()) if Path(member).name == name), None)
        return archive.read(member) if member else None


def _film_100k(line: str) -> Item:
    if "|" in line and "\t" not in line:
        fields = line.rstrip("\r\n").split("|")
        genres = [genre for genre, flag in zip(GENRES, fields[5:], strict=True) if flag == "1"]
        return _film(fields[0], fields[1], _year(fields[1]), genres)
    item, title, year, genres_text = line.rstrip("\r\n").split("\t")
    return _film(item, f"{title} ({year})" if year.isdecimal() else title, year, genres_text.split())


def _year(title: str) -> str:
    found = _YEAR.search(title)
    return found.group(1) if found else ""


def _film(item_id: str, title: str, year: str, genres: list[str]) -> Item:
    published = int(datetime(int(year), 1, 1, tzinfo=UTC).timestamp() * 1000) if year.isdecimal() else None
    return Item(
        item_id=item_id,
        title=title,
        category=genres[0] if genres else None,
        tags=genres or None,
        published_at=published,
    )


def records_1m(path: Path) -> Iterator[LogRecord]:
    """Every film, then the sequences abreast: each user's first film, then each user's second, and so on.

    Args:
        path: a Parquet file with user_id, position and item_id, beside it `ml-1m-items.tsv` (id, title and genres, in
            Latin-1, without a header); or the folder that holds both.

    Raises:
        DataSetError: a file is missing, or lacks a column.
    """
    sequences = path / "ml-1m.parquet" if path.is_dir() else path
    log = read_table(sequences, COLUMNS_1M).sort("position", "user_id")
    yield from _films_1m(sequences.with_name(ITEMS_1M))
    yield from arrivals(
        Interaction(
            user_id=user,
            item_id=item,
            action="click",
            event_id=f"{user}-{position}",
            ts=START_1M + 1000 * position,
        )
        for user, position, item in log.iter_rows()
    )


def _films_1m(path: Path) -> Iterator[Item]:
    wanted = "wanted are lines of item id, title and genres, parted by tabs, in Latin-1"
    try:
        text = path.read_bytes().decode("latin-1")
        for line in io.StringIO(text):
            item, title, genres = line.rstrip("\r\n").split("\t")
            yield _film(item, title, _year(title), genres.split("|"))
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path} cannot be read ({error}); {wanted}") from error


MOVIELENS_100K = DataSet(
    name="movielens-100k",
    schema=SCHEMA_100K,
    records=records_100k,
    source="https://grouplens.org/datasets/movielens/100k/",
)
MOVIELENS_1M = DataSet(
    name="movielens-1m",
    schema=FeatureSchema(),
    records=records_1m,
    source="https://grouplens.org/datasets/movielens/1m/",
)
