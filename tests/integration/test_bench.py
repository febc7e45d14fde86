"""The benchmarks from end to end on Apache Kafka, as short as they can be: what they count, not how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from liverank.cli.main import app


def bench(kafka: str, report: Path, *arguments: str) -> dict:
    """Run a benchmark against a broker; its report, which is also what it prints."""
    done = CliRunner().invoke(app, ["bench", *arguments, "--broker", kafka, "--json", str(report)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    found = json.loads(report.read_text())
    assert json.loads(done.stdout) == found
    assert found["machine"]["cpus"] >= 1
    assert found["machine"]["broker"] == {"kind": "external", "version": None, "address": kafka}
    assert found["machine"]["provider"].endswith("ExecutionProvider")
    return found


@pytest.mark.slow
def test_latency(kafka: str, tmp_path: Path) -> None:
    """Every input is in a ranking, at each rate, beside a trainer and in the burst; a worker that is behind ranks a
    user once for several; the flame graph is of the worker."""
    found = bench(
        kafka, tmp_path / "latency.json", "latency", "--seconds", "2", "--rate", "60", "--burst", "600",
        "--users", "40", "--candidates", "20", "--history", "20", "--items", "300", "--warm-s", "1",
        "--rates", "30,90", "--with-trainer", "--profile", str(tmp_path / "flame.svg"),
    )  # fmt: skip
    assert (found["missing"], found["repeated"]) == (0, 0)
    assert found["latency_ms"]["n"] > 60
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["worker_cpu_us"] > 0
    burst = found["burst"]
    assert burst["inputs"] == 600
    assert 40 <= burst["rankings"] <= 600
    assert burst["worker_cpu_us"] > 0
    assert burst["inputs_per_s"] == pytest.approx(600 / burst["seconds"], rel=0.05)
    slow, fast = found["rates"]["30"], found["rates"]["90"]
    assert 1.5 < fast["latency_ms"]["n"] / slow["latency_ms"]["n"] < 6
    for part in (found["latency_ms"], slow["latency_ms"], found["trainer"]["with"], found["trainer"]["without"]):
        assert part["n"] > 20
        assert 0 < part["p50"] <= part["p90"] <= part["p99"] <= part["p999"] <= part["max"]
    beside = found["trainer"]
    assert beside["p50_ratio"] == pytest.approx(beside["with"]["p50"] / beside["without"]["p50"], abs=2e-3)
    assert "streams/pipeline/handler.py" in (tmp_path / "flame.svg").read_text()


@pytest.mark.slow
def test_compare(kafka: str, tmp_path: Path) -> None:
    """Both workers rank every input of the same load, and the ratios are of what was measured."""
    found = bench(
        kafka, tmp_path / "compare.json", "compare", "--pairs", "1", "--seconds", "2", "--rate", "30", "--burst", "200",
        "--users", "20", "--candidates", "10", "--history", "10", "--items", "100", "--warm-s", "1",
    )  # fmt: skip
    (run,) = found["runs"]
    assert set(run) == {"liverank", "faust"}
    for name, figures in run.items():
        assert figures["missing"] == 0 and figures["rate"] > 0 and 0 < figures["p50_ms"] <= figures["p99_ms"], name
        assert found[name] == figures
    ratio = run["liverank"]["cpu_us"] / run["faust"]["cpu_us"]
    assert found["ratios"]["faust"]["cpu_us"]["median"] == pytest.approx(ratio, abs=1e-3)


@pytest.mark.slow
def test_gateway(kafka: str, tmp_path: Path) -> None:
    """Each question has its ranking, over the gateway and over Kafka, and the ratio is of what was measured."""
    found = bench(
        kafka, tmp_path / "gateway.json", "gateway", "--pairs", "2", "--seconds", "1", "--rate", "20", "--users", "20",
        "--candidates", "20", "--history", "10", "--items", "100",
    )  # fmt: skip
    assert found["stale"] == {"kafka": 0, "gateway": 0}
    ways = found["kafka_ms"], found["gateway_ms"]
    for way in ways:
        assert way["n"] > 20 and 0 < way["p50"] <= way["p99"] <= way["max"]
    assert found["p99_ratio"] == pytest.approx(ways[1]["p99"] / ways[0]["p99"], abs=2e-3)
    assert found["p50_ratio"] == pytest.approx(ways[1]["p50"] / ways[0]["p50"], abs=2e-3)
    low, high = found["p99_ratio_interval"]
    assert low <= found["p99_ratio_median"] <= high
    assert found["gateway_cpu_us"]["gateway"] > found["gateway_cpu_us"]["kafka"], "answering costs more than following"


@pytest.mark.slow
def test_swap(kafka: str, tmp_path: Path) -> None:
    """Every announced version ranks, every event is in a ranking, none comes twice, and both sides have events."""
    found = bench(
        kafka, tmp_path / "swap.json", "swap", "--swaps", "2", "--rate", "60", "--quiet-s", "1", "--users", "40",
        "--candidates", "20", "--history", "20", "--items", "300", "--warm-s", "1",
    )  # fmt: skip
    assert (found["swaps"], found["missing"], found["repeated"]) == (2, 0, 0)
    assert found["before_ms"]["n"] > 20
    assert found["during_ms"]["n"] > 20
    assert found["events"] >= found["before_ms"]["n"] + found["during_ms"]["n"] - 2
    assert found["p99_ratio"] == pytest.approx(found["during_ms"]["p99"] / found["before_ms"]["p99"], abs=1e-3)
    low, high = found["p99_ratio_interval"]
    assert low <= found["p99_ratio"] <= high


@pytest.mark.slow
def test_recovery(kafka: str, tmp_path: Path) -> None:
    """A killed worker's users are ranked by the other one, after the session timeout at the latest; nothing is lost."""
    found = bench(
        kafka, tmp_path / "recovery.json", "recovery", "--kills", "1", "--stretch-s", "9", "--rate", "40",
        "--users", "40", "--candidates", "10", "--history", "10", "--items", "100", "--warm-s", "1",
    )  # fmt: skip
    assert found["missing"] == 0
    assert found["kill_wait_s"]["n"] == found["return_wait_s"]["n"] == 1
    assert found["kill_wait_s"]["max"] > 1  # nobody hears of a kill before the session timeout is over
    assert 0 < found["over_1_s"] < 1
    assert found["inputs"] > 500


@pytest.mark.slow
def test_freshness(kafka: str, tmp_path: Path) -> None:
    """Every event is learned from, in a delta and in dense weights, and none was before it happened."""
    found = bench(
        kafka, tmp_path / "freshness.json", "freshness", "--seconds", "4", "--rate", "40", "--users", "30",
        "--candidates", "10", "--items", "100", "--warm-s", "2",
    )  # fmt: skip
    assert found["events"] > 80
    assert (found["never_in_delta"], found["never_in_dense"]) == (0, 0)
    assert found["delta_s"]["n"] == found["dense_s"]["n"] == found["events"]
    assert 0 < found["delta_s"]["p50"] <= found["delta_s"]["p99"]
    assert found["delta_s"]["p50"] < found["dense_s"]["p50"]
    assert (found["missing"], found["repeated"]) == (0, 0)
    assert found["versions"] >= 2
    assert found["deltas"] >= 1
    assert found["latency_ms"]["n"] == found["inputs"] > 0


@pytest.mark.slow
def test_soak(kafka: str, tmp_path: Path) -> None:
    """Worker and trainer are both looked at, after the warm-up; versions of the trainer's rank, and nothing is lost."""
    found = bench(
        kafka, tmp_path / "soak.json", "soak", "--minutes", "0.3", "--rate", "40", "--every-s", "1", "--users", "30",
        "--candidates", "10", "--history", "10", "--items", "100",
    )  # fmt: skip
    assert (found["missing"], found["repeated"]) == (0, 0)
    assert set(found["memory"]) == {"worker", "trainer"}
    for held in found["memory"].values():
        assert held["slope_mb_per_h"] <= held["high"]
        assert 50 < held["first_mb"] <= held["peak_mb"]
        assert held["last_mb"] <= held["peak_mb"]
    assert found["swaps"] >= 1
    assert found["p99_ratio"] == pytest.approx(found["last_ms"]["p99"] / found["first_ms"]["p99"], abs=1e-3)
    assert (found["warm_up_s"], found["window_s"]) == (pytest.approx(6, abs=0.5), pytest.approx(3, abs=0.5))
    assert 0 < found["last_ms"]["n"] < found["inputs"]


@pytest.mark.slow
def test_scale(kafka: str, tmp_path: Path) -> None:
    """Rows that nobody has asked for are on the disk, and are there after a kill; each size has its line."""
    found = bench(
        kafka, tmp_path / "scale.json", "scale", "--users", "20,3000", "--items", "60", "--rate", "40",
        "--seconds", "1", "--candidates", "10",
    )  # fmt: skip
    few, many = found["users"]
    assert (few["users"], many["users"]) == (20, 3000)
    assert many["disk_mb"] - few["disk_mb"] > 0.5 * 2980 * many["row_bytes"] / 1e6  # RocksDB compresses, ids do not
    for line in (few, many, *found["items"]):
        assert line["missing"] == 0 and line["latency_ms"]["n"] > 20 and line["worker_cpu_us"] > 0
    assert many["kill_to_ranking_s"] >= many["killed_ready_s"] > 0
    (items,) = found["items"]
    assert items["items"] == 60 and items["swap_s"] > 0 and items["during_swap_ms"]["n"] > 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("latency", "--burst", "0"), "seconds, rate, rates and burst must be above 0, candidates 1 to items"),
        (("gateway", "--pairs", "0"), "pairs, seconds and rate must be above 0"),
        (("recovery", "--kills", "0"), "kills, rate and stretch-s must be above 0"),
        (("swap", "--swaps", "0"), "swaps and candidates must be at least 1"),
        (("soak", "--minutes", "0"), "minutes, rate and every-s must be above 0"),
        (("sizes", "--candidates", "0"), "lists and history must be at least 1, candidates 1 to items"),
        (("freshness", "--seconds", "0"), "seconds and rate must be above 0"),
        (("scale", "--users", "1000,many"), "'1000,many' is no list of whole numbers above 0"),
        (("scale", "--items", "50"), "candidates must be at most as many as the items"),
        (("freshness", "--broker", "pigeon"), "unknown broker 'pigeon'"),
    ],
)
def test_what_cannot_work_is_one_readable_error(arguments: tuple[str, ...], problem: str) -> None:
    """It is said before anything is started."""
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 1
    assert problem in str(done.exception)
