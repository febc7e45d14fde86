"""`liverank bench`: what the docs claim, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from liverank.cli.local import BrokerChoice
from liverank.cli.options import Json, whole_numbers
from liverank.terminal import errors, report
from ranker.registry.settings import Provider

# Torch, Kafka and ONNX Runtime are imported inside the commands that need them.
# ruff: noqa: PLC0415

bench_app = typer.Typer(
    help="Measure latency, swaps, freshness, recovery and parts by themselves, or let things fail: docs/benchmarks.md.",
    no_args_is_help=True,
)

Rate = Annotated[float, typer.Option(help="Inputs a second, of all users together.")]
Users = Annotated[int, typer.Option(help="Simulated users.")]
Candidates = Annotated[int, typer.Option(help="Items in a list.")]
Items = Annotated[int, typer.Option(help="Items in the catalogue.")]
HistoryLength = Annotated[int, typer.Option(help="Events that a user has done when it begins.")]
Warm = Annotated[float, typer.Option(help="Seconds of load before anything is measured.")]


@bench_app.command("latency", epilog="Example:  liverank bench latency --json latency.json")
def latency(
    broker: BrokerChoice = "kafka",
    seconds: Annotated[float, typer.Option(help="How long the steady load is measured.")] = 30.0,
    rate: Rate = 200,
    burst: Annotated[int, typer.Option(help="Inputs at once, after the steady load.")] = 20_000,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    items: Items = 10_000,
    warm_s: Warm = 5.0,
    rates: Annotated[str, typer.Option(help="Other rates to be measured too, with commas: 50,1000.")] = "",
    with_trainer: Annotated[
        bool, typer.Option("--with-trainer", help="Measure beside a trainer and its versions.")
    ] = False,
    profile: Annotated[str | None, typer.Option(help="Write a flame graph of the worker there (needs py-spy).")] = None,
    json: Json = None,
) -> None:
    """Rank under a steady load, then a burst: milliseconds to the ranking, processor time an input, inputs a second."""
    from liverank.bench.latency import LatencyOptions, bench_latency

    options = LatencyOptions(
        broker=broker, seconds=seconds, rate=rate, burst=burst, users=users, candidates=candidates, history=history,
        items=items, warm_s=warm_s, rates=whole_numbers(rates), with_trainer=with_trainer, profile=profile,
    )  # fmt: skip
    report(bench_latency(options, errors), json)


@bench_app.command("compare", epilog="Example:  liverank bench compare --json compare.json")
def compare(
    broker: BrokerChoice = "kafka",
    pairs: Annotated[int, typer.Option(help="Runs of each, in turns.", min=1)] = 5,
    before: Annotated[str | None, typer.Option(help="A Python that has another release of liverank.")] = None,
    quix: Annotated[str | None, typer.Option(help="A Python that has this release and Quix Streams.")] = None,
    seconds: Annotated[float, typer.Option(help="How long the steady load of each run is measured.")] = 20.0,
    rate: Rate = 200,
    burst: Annotated[int, typer.Option(help="Inputs at once, after the steady load.")] = 10_000,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    items: Items = 10_000,
    warm_s: Warm = 5.0,
    json: Json = None,
) -> None:
    """This worker beside one of plain Faust with the same fold and model: latency, processor time, inputs a second."""
    from liverank.bench.compare import CompareOptions, bench_compare
    from liverank.bench.latency import LatencyOptions

    each = LatencyOptions(
        broker=broker, seconds=seconds, rate=rate, burst=burst, users=users, candidates=candidates, history=history,
        items=items, warm_s=warm_s,
    )  # fmt: skip
    report(bench_compare(CompareOptions(pairs=pairs, before=before, quix=quix, latency=each), errors), json)


@bench_app.command("gateway", epilog="Example:  liverank bench gateway --json gateway.json")
def gateway(
    broker: BrokerChoice = "kafka",
    pairs: Annotated[int, typer.Option(help="Windows of each way, in turns.")] = 15,
    seconds: Annotated[float, typer.Option(help="How much of each window is measured.")] = 5.0,
    rate: Annotated[float, typer.Option(help="Questions a second: a list, and a click on it.")] = 100,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    items: Items = 10_000,
    json: Json = None,
) -> None:
    """Have lists ranked over a gateway and over Kafka itself, in turns: milliseconds of each, and p99 over p99."""
    from liverank.bench.gateway import GatewayOptions, bench_gateway

    options = GatewayOptions(
        broker=broker, pairs=pairs, seconds=seconds, rate=rate, users=users, candidates=candidates, history=history,
        items=items,
    )  # fmt: skip
    report(bench_gateway(options, errors), json)


@bench_app.command("swap", epilog="Example:  liverank bench swap --json swap.json")
def swap(
    broker: BrokerChoice = "kafka",
    swaps: Annotated[int, typer.Option(help="Versions to swap to, one after another.")] = 12,
    rate: Rate = 200,
    quiet_s: Annotated[float, typer.Option(help="Seconds without a swap before each.")] = 3.0,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: Annotated[int, typer.Option(help="Events that a user has done by the end.")] = 50,
    items: Items = 10_000,
    warm_s: Warm = 5.0,
    json: Json = None,
) -> None:
    """Swap models under load: events lost, rankings repeated, and p99 during swaps against before."""
    from liverank.bench.swap import SwapOptions, bench_swap

    options = SwapOptions(
        broker=broker, swaps=swaps, rate=rate, quiet_s=quiet_s, users=users, candidates=candidates, history=history,
        items=items, warm_s=warm_s,
    )  # fmt: skip
    report(bench_swap(options, errors), json)


@bench_app.command("freshness", epilog="Example:  liverank bench freshness --json freshness.json")
def freshness(
    broker: BrokerChoice = "kafka",
    seconds: Annotated[float, typer.Option(help="How long the events are produced that are measured.")] = 60.0,
    rate: Rate = 100,
    users: Users = 200,
    candidates: Candidates = 40,
    items: Items = 2000,
    warm_s: Warm = 10.0,
    json: Json = None,
) -> None:
    """Learn from a stream: seconds from an event to the first ranking by weights that had learned from it."""
    from liverank.bench.freshness import FreshnessOptions, bench_freshness

    options = FreshnessOptions(
        broker=broker, seconds=seconds, rate=rate, users=users, candidates=candidates, items=items, warm_s=warm_s,
    )  # fmt: skip
    report(bench_freshness(options, errors), json)


@bench_app.command("recovery", epilog="Example:  liverank bench recovery --json recovery.json")
def recovery(
    broker: BrokerChoice = "kafka",
    kills: Annotated[int, typer.Option(help="How often a worker is killed, and started again.")] = 3,
    stretch_s: Annotated[float, typer.Option(help="Seconds after a kill, and after the worker is back.")] = 20.0,
    rate: Rate = 100,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    items: Items = 2000,
    warm_s: Warm = 5.0,
    json: Json = None,
) -> None:
    """Kill one of two workers under load, again and again: the longest wait for a ranking, and what was lost."""
    from liverank.bench.recovery import RecoveryOptions, bench_recovery

    options = RecoveryOptions(
        broker=broker, kills=kills, stretch_s=stretch_s, rate=rate, users=users, candidates=candidates,
        history=history, items=items, warm_s=warm_s,
    )  # fmt: skip
    report(bench_recovery(options, errors), json)


@bench_app.command("soak", epilog="Example:  liverank bench soak --minutes 30 --json soak.json")
def soak(
    broker: BrokerChoice = "kafka",
    minutes: Annotated[float, typer.Option(help="How long; a third of it is for warming up.")] = 30.0,
    rate: Rate = 100,
    every_s: Annotated[float, typer.Option(help="Seconds between two versions of the trainer's.")] = 5.0,
    users: Users = 1000,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    items: Items = 10_000,
    json: Json = None,
) -> None:
    """Learn and serve for long: whether memory of worker and trainer grows, and rankings come later at the end."""
    from liverank.bench.soak import SoakOptions, bench_soak

    options = SoakOptions(
        broker=broker, minutes=minutes, rate=rate, every_s=every_s, users=users, candidates=candidates,
        history=history, items=items,
    )  # fmt: skip
    report(bench_soak(options, errors), json)


@bench_app.command("scale", epilog="Example:  liverank bench scale --users 100000 --items 100000 --json scale.json")
def scale(
    broker: BrokerChoice = "kafka",
    users: Annotated[str, typer.Option(help="Numbers of users whose rows there are, with commas between.")] = (
        "1000,100000,1000000"
    ),
    items: Annotated[str, typer.Option(help="Numbers of items in the catalogue, with commas between.")] = (
        "10000,100000,1000000"
    ),
    rate: Rate = 100,
    seconds: Annotated[float, typer.Option(help="Length of each steady load.")] = 20.0,
    candidates: Candidates = 100,
    json: Json = None,
) -> None:
    """Fill a worker with users, then with items: memory, disk, time until ready, and what an input costs."""
    from liverank.bench.scale import ScaleOptions, bench_scale

    options = ScaleOptions(
        broker=broker, users=whole_numbers(users), items=whole_numbers(items), rate=rate, seconds=seconds,
        candidates=candidates,
    )  # fmt: skip
    report(bench_scale(options, errors), json)


@bench_app.command("sizes", epilog="Example:  liverank bench sizes --lists 1 --candidates 40")
def sizes(
    items: Items = 10_000,
    candidates: Candidates = 100,
    lists: Annotated[int, typer.Option(help="Current lists of each user.")] = 3,
    history: Annotated[int, typer.Option(help="Events of each user.")] = 64,
    json: Json = None,
) -> None:
    """Count the bytes that a user and an item take in a worker, in memory and on disk. Seconds; no broker."""
    from liverank.bench.parts.sizes import SizesOptions, bench_sizes

    options = SizesOptions(items=items, candidates=candidates, lists=lists, history=history)
    report(bench_sizes(options, errors), json)


@bench_app.command("learning", epilog="Example:  liverank bench learning --candidates 40 --json learning.json")
def learning(
    examples: Annotated[int, typer.Option(help="Examples that are measured; some before them are for warming up.")] = (
        2048
    ),
    items: Items = 10_000,
    candidates: Candidates = 100,
    history: Annotated[int, typer.Option(help="Events that a user has done before.")] = 50,
    batch: Annotated[int, typer.Option(help="Examples of one step.")] = 64,
    json: Json = None,
) -> None:
    """Learn on one core without a broker: processor time an example, and examples a second. A minute."""
    from liverank.bench.parts.learning import LearningOptions, bench_learning

    options = LearningOptions(examples=examples, items=items, candidates=candidates, history=history, batch=batch)
    report(bench_learning(options, errors), json)


@bench_app.command("scorer", epilog="Example:  liverank bench scorer --history 200 --batch 1,64 --json scorer.json")
def scorer(
    history: Annotated[str, typer.Option(help="Events, with commas between.")] = "50,200,1000",
    candidates: Annotated[str, typer.Option(help="Items in a list, with commas between.")] = "10,100,500",
    batch: Annotated[str, typer.Option(help="Users ranked at once, with commas between.")] = "1,8,64",
    items: Items = 10_000,
    provider: Annotated[Provider, typer.Option(help="Where the graphs run.")] = "auto",
    json: Json = None,
) -> None:
    """Encode and score users anew, and extended by one event: microseconds a user. Minutes; no broker."""
    from liverank.bench.parts.scorer import ScorerOptions, bench_scorer

    options = ScorerOptions(whole_numbers(history), whole_numbers(candidates), whole_numbers(batch), items, provider)
    report(bench_scorer(options, errors), json)


@bench_app.command("stages", epilog="Example:  liverank bench stages --json stages.json")
def stages(
    users: Users = 200,
    candidates: Candidates = 100,
    history: HistoryLength = 50,
    inputs: Annotated[int, typer.Option(help="Inputs that are measured.")] = 2000,
    items: Items = 10_000,
    reasons: Annotated[int, typer.Option(help="Reasons that each list asks for.")] = 0,
    detail: Annotated[str, typer.Option(help="What rankings say of an item: full, scores or order.")] = "full",
    json: Json = None,
) -> None:
    """Lead inputs through a worker's parts: processor time of each stage, in microseconds. Seconds; no broker."""
    from liverank.bench.parts.stages import StagesOptions, bench_stages

    options = StagesOptions(
        users=users, candidates=candidates, history=history, inputs=inputs, items=items, detail=detail, reasons=reasons
    )
    report(bench_stages(options, errors), json)


@bench_app.command("faults", epilog="Example:  liverank bench faults --rounds 200 --seed 7 --json faults.json")
def faults(
    rounds: Annotated[int, typer.Option(help="Faults, one after another.")] = 20,
    seed: Annotated[int, typer.Option(help="Of every draw: the same one replays the schedule and the workload.")] = 0,
    kinds: Annotated[
        str | None, typer.Option(help="Kinds of faults, with commas between; else all.", show_default=False)
    ] = None,
    brokers: Annotated[int, typer.Option(help="Apache Kafka nodes: 1, or 3 with three copies of each topic.")] = 1,
    rate: Annotated[float, typer.Option(help="Inputs a second, outside bursts of 20 times as many.")] = 20.0,
    users: Annotated[int, typer.Option(help="Simulated users, new ones after each check.")] = 60,
    stretch: Annotated[int, typer.Option(help="Rounds between two checks.")] = 3,
    longest_s: Annotated[float, typer.Option(help="Seconds that something is away at most.")] = 10.0,
    keep: Annotated[
        Path | None, typer.Option(help="Leave logs, records and data in this new folder.", show_default=False)
    ] = None,
    json: Json = None,
) -> None:
    """Let processes, brokers, disks and lines fail under load, and check every topic; exits 1 on violations."""
    from liverank.faults.run import FaultOptions, run_faults
    from liverank.faults.schedule import KINDS

    chosen = tuple(KINDS) if kinds is None else tuple(kind.strip() for kind in kinds.split(","))
    options = FaultOptions(
        rounds=rounds, seed=seed, kinds=chosen, brokers=brokers, rate=rate, users=users, stretch=stretch,
        longest_s=longest_s, keep=keep,
    )  # fmt: skip
    result = run_faults(options, errors)
    report(result, json)
    if result["violations"]:
        raise typer.Exit(1)


@bench_app.command("memory", epilog="Example:  liverank bench memory --lists 100000 --json memory.json")
def memory(
    lists: Annotated[int, typer.Option(help="Lists in the made-up folder.")] = 1_000_000,
    length: Annotated[int, typer.Option(help="Items in a list.")] = 50,
    items: Annotated[int, typer.Option(help="Items in the catalogue.")] = 50_000,
    users: Annotated[int, typer.Option(help="People.")] = 200_000,
    epochs: Annotated[int, typer.Option(help="Passes over the examples.")] = 1,
    json: Json = None,
) -> None:
    """Check a large made-up folder and train on it: the most memory that each took. An hour or two."""
    from liverank.bench.parts.memory import MemoryOptions, bench_memory

    options = MemoryOptions(lists=lists, length=length, items=items, users=users, epochs=epochs)
    report(bench_memory(options, errors), json)


@bench_app.command(
    "words", epilog='Example:  liverank bench words --data ml-1m.parquet --say "space war" --say "but funny"'
)
def words(
    data: Annotated[Path, typer.Option("--data", help="MovieLens-1M as a Parquet file, its items beside it.")],
    users: Annotated[int, typer.Option(help="People whose last film is asked for.")] = 1000,
    candidates: Candidates = 100,
    learn: Annotated[int, typer.Option(help="Other people, from whose clicks two models are trained.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over their clicks.")] = 2,
    say: Annotated[list[str] | None, typer.Option(help="Words to try, a turn each: the first titles then.")] = None,
    json: Json = None,
) -> None:
    """Rank lists before and after words that somebody might type: reciprocal rank of the film, with and without."""
    from liverank.bench.parts.words import WordsOptions, bench_words

    options = WordsOptions(
        data=data, users=users, candidates=candidates, learn=learn, epochs=epochs, say=tuple(say or ())
    )  # fmt: skip
    report(bench_words(options, errors), json)


@bench_app.command("starter", epilog="Example:  liverank bench starter --data ml-100k.zip --json starter.json")
def starter(
    data: Annotated[Path, typer.Option("--data", help="MovieLens-100K, a folder or a zip file.")],
    people: Annotated[int, typer.Option(help="Simulated users, 25 events each.")] = 150,
    json: Json = None,
) -> None:
    """Rank the demo's lists by the starter alone: reciprocal rank of the clicks, beside the order shown."""
    from liverank.demo.starter_figures import starter_figures

    report(starter_figures(data, people), json)
