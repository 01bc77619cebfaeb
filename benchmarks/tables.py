"""Write the tables of the pages from the files in benchmarks/results.

On any page in docs a table stands between `<!-- results: NAME -->` and `<!-- end -->`; everything else is
written by hand. With `--check` nothing is written, and the program ends with 1 where pages and files differ.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

from tocsin.core.stats import wilson
from tocsin.detect.shipped import profiles_folder

PAGES = ROOT / "docs"
MARKED = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MISSING = "Not measured yet.\n"

# What json.loads gives; the files are our own, so a missing key is a mistake here and stops the program.
Result = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are set right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def percent(rate: Result) -> str:
    """A share with its interval, in per cent."""
    if rate["value"] is None:
        return "-"
    return f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"


def area(rate: Result) -> str:
    """A ranking figure with its interval."""
    if rate["value"] is None:
        return "-"
    return f"{rate['value']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})"


def times(ratio: Result) -> str:
    """A ratio with its spread over the rounds."""
    return f"{ratio['median']:.1f} ({ratio['lowest']:.1f} to {ratio['highest']:.1f})"


def made_by(result: Result) -> str:
    """The line under a table: machine, date, commit and command."""
    machine = result["machine"]
    return (
        f"\n{machine['cpu']}, {machine['usable_cores']} cores, {machine['memory_gb']:.0f} GB; Python "
        f"{machine['python']}, numpy {machine['numpy']}; load before {machine['load_before']:.1f}; "
        f"{result['date'][:10]}, commit {result['commit']}: `{result['command']}`\n"
    )


def speed_prompts(result: Result) -> str:
    """Rates of the ways to read prompts."""
    rows = [
        [
            name,
            f"{rate:.1f}",
            "1" if name == "tocsin" else times(result["tocsin_times_faster_than"][name]),
            f"{len_seconds(result, name):.1f}",
        ]
        for name, rate in result["prompts_per_second"].items()
    ]
    head = ["way", "prompts/s", "tocsin is faster by", f"seconds for {result['n']:,}"]
    return table(head, rows) + (
        f"\n{result['n']:,} {result['prompts']}, {result['rounds']} rounds, medians; in brackets lowest and "
        f"highest round. PyTorch threads: {result['pytorch_threads']}. {_limits(result, 'prompt')} Largest "
        f"difference of an activation to transformers: "
        f"{result['largest_difference_to_transformers']:.1e}.\n"
    )


def len_seconds(result: Result, name: str) -> float:
    """Seconds of one way at its median rate."""
    return float(result["n"] / result["prompts_per_second"][name])


def memory(result: Result) -> str:
    """Peak memory by detector and size."""
    rows = [
        [row["detector"], f"{row['n']:,}", f"{row['peak_mb']:.0f}", f"{row['prompts_per_second']:.0f}"]
        for row in sorted(result["scans"], key=lambda row: (row["detector"], row["n"]))
    ]
    return table(["detector", "prompts", "peak MB", "prompts/s"], rows)


def speed_skills(result: Result) -> str:
    """Rates on skills, beside the peer."""
    ratios = result["ratio_to_peer"]
    rows = [
        [name, f"{rate:.1f}", times(ratios[name]) if name in ratios else "1"]
        for name, rate in result["skills_per_second"].items()
    ]
    return table(["way", "skills/s", "times the peer's rate"], rows) + (
        f"\n{result['n']} skills, {result['rounds']} rounds, medians; peer {result['peer']['package']} "
        f"({', '.join(result['peer']['analysers'])}). Whole commands stand beside the peer's whole command. "
        f"{_limits(result, 'skill')}\n"
    )


def speed_judges(result: Result) -> str:
    """Rate of the lexical metrics, beside the libraries."""
    rows = [
        ["`tocsin.judges.lexical`", f"{result['seconds']:.1f}", f"{result['times_faster']:.1f}"],
        ["the libraries, pair by pair", f"{result['reference_seconds']:.1f}", "1"],
    ]
    return table(["way", "seconds", "times as fast"], rows) + (
        f"\n{result['metrics']} metrics of {result['pairs']:,} pairs of generated text; largest difference "
        f"of a score {result['largest_difference']:.0e}.\n"
    )


def speed_spark(result: Result) -> str:
    """What Spark costs where detectors cost nothing."""
    runs = result["runs"]
    seconds = {name: f"{run['seconds']:.1f}" for name, run in runs.items()}
    rows = [
        ["embedded engine", seconds["embedded"]],
        ["start of a Spark session", f"{result['session_seconds']:.1f}"],
        ["its first scan, in which workers start", seconds["first"]],
        ["a later scan", seconds["later"]],
    ]
    return table(["step", "seconds"], rows) + (
        f"\n{result['prompts']:,} generated prompts, `surface`, {result['master']}; equal result files. The "
        f"driver computed for {result['driver_microseconds_an_item']:.0f} microseconds an item.\n"
    )


def _limits(result: Result, item: str) -> str:
    """What the work is, and how near to the machine's own rate it is done."""
    reached = (
        f"{result['matrix_rate_gflops']:.0f} GFLOP/s, {result['share_of_matrix_rate']:.0%} of it reached"
    )
    return (
        f"{result['tokens_per_item']:.1f} tokens a {item} after {result['shared_prefix_tokens']} shared "
        f"ones, {result['blocks']} blocks, {result['gflop_per_item']:.2f} GFLOP a {item}; "
        f"matrix rate {reached}; "
        f"ceiling {result['ceiling_items_per_second']:.0f} {item}s/s."
    )


def startup(result: Result) -> str:
    """Start-up times and sizes."""
    names = {
        "bare_python": "`python -c pass`",
        "import_tocsin": "`import tocsin`",
        "help": "`tocsin --help`",
        "scan_one_prompt": "`tocsin scan` of one prompt",
    }
    rows = [
        [
            names[name],
            f"{one['median_s']:.3f} ({one['lowest_s']:.3f} to {one['highest_s']:.3f})",
            "-" if one["target_s"] is None else f"{one['target_s']:g}",
        ]
        for name, one in result["startup"].items()
        if name in names
    ]
    text = table(["what", "seconds, median (lowest to highest)", "target"], rows)
    if "sizes" in result:
        sizes = result["sizes"]
        text += "\n" + table(
            ["what", "MB"],
            [
                ["wheels of the core install", f"{sizes['wheels_mb']:.1f}"],
                ["embedded model", f"{sizes['model_wheel_mb']:.1f}"],
                ["build backend", f"{sizes['build_backend_mb']:.1f}"],
                [
                    f"download of `make demo`, together (target {sizes['download_target_mb']})",
                    f"{sizes['download_mb']:.1f}",
                ],
                ["installed", f"{sizes['installed_mb']:.1f}"],
                ["cache (`TOCSIN_HOME`)", f"{sizes['cache_mb']:.1f}"],
            ],
        )
    return text


def accuracy(result: Result) -> str:
    """Rankings and flagged shares of one detector."""
    rankings = [
        [
            name.replace("_", " "),
            area(one["auroc"]),
            f"{one['auroc_abstentions_against']:.3f}",
            percent(one["recall_at_fpr"]["0.01"]),
            percent(one["recall_at_fpr"]["0.05"]),
            _best_baseline(one["surface_baselines"]),
        ]
        for name, one in result["comparisons"].items()
    ]
    shares = [
        [
            name.replace("_", " "),
            f"{one['n']:,}",
            f"{one['scored_share']:.1%}",
            percent(one["flagged"]),
            percent(one["flagged_abstentions_against"]),
        ]
        for name, one in result["sets"].items()
    ]
    head = ["sets", "AUROC", "abstentions against", "caught at 1 % FPR", "caught at 5 % FPR", "surface alone"]
    return (
        table(head, rankings)
        + "\n"
        + table(["set", "rows", "scored", "flagged", "flagged, abstentions against"], shares)
    )


def _best_baseline(baselines: Mapping[str, float | None]) -> str:
    """The surface baseline that tells most (in either direction), with the bag of words beside it."""
    single = {
        name: value for name, value in baselines.items() if value is not None and name != "bag_of_words"
    }
    strongest = max(single, key=lambda name: abs(single[name] - 0.5))
    bag = baselines.get("bag_of_words")
    words = "" if bag is None else f"; words {bag:.2f}"
    return f"{strongest.replace('_', ' ')} {single[strongest]:.2f}{words}"


def policy_embedded(result: Result) -> str:
    """As `accuracy`, with the real skills and the held-back purposes of our own set."""
    skills, own = result["skills"], result["held_back_skills"]["skills"]
    rows = [
        ["skills of reputable publishers", *_share_cells(skills["reputable"])],
        ["skills of the wild registry (published: 8.84 % harmful)", *_share_cells(skills["wild"])],
        ["held-back harmful purposes of our own set", *_share_cells(own["harmful"])],
        ["their harmless twins", *_share_cells(own["harmless"])],
        ["held-back plain purposes", *_share_cells(result["held_back_skills"]["plain_skills"]["harmless"])],
    ]
    category = own["category"]["all_scored"]
    return (
        table(["skills", "n", "abstained", "flagged"], rows)
        + f"\nCategory right on the held-back harmful purposes: {percent(category)}.\n\n"
        + accuracy(result)
    )


def _share_cells(one: Result) -> list[str]:
    return [f"{one['n']:,}", f"{one['abstained']}", percent(one["flagged"])]


def biopsy(result: Result) -> str:
    """The one-class study: settings and fit sources, beside the punctuation rule."""
    study = result["one_class_study"]
    rows = []
    for setting, sources in study.items():
        if not isinstance(sources, dict):
            continue
        for source, figures in sources.items():
            one = figures["advbench_vs_alpaca"]
            rows.append(
                [
                    f"{setting}; fitted on {source}",
                    area(one["auroc"]),
                    f"{one['average_precision']['value']:.3f}",
                    percent(one["recall_at_fpr"]["0.01"]),
                    f"{one['surface_baselines']['final_punctuation']:.3f}",
                    area(figures["advbench_vs_xstest_safe"]["auroc"]),
                ]
            )
    head = ["setting", "AUROC AdvBench/Alpaca", "AUPRC", "caught at 1 % FPR", "no final punctuation"]
    return (
        table([*head, "AUROC AdvBench/XSTest safe"], rows) + "\nThe shipped profile:\n\n" + accuracy(result)
    )


def trace_twitter15(result: Result) -> str:
    """Every rule of reconstruction against the released parents, and the repairs."""

    def cell(rate: Result, digits: int) -> str:
        return f"{rate['value']:.{digits}f} ({rate['low']:.{digits}f} to {rate['high']:.{digits}f})"

    head = ["rule", "parent right", "same, parent not the source", "depth off by", "depth, signed",
            "virality off by", "virality, signed"]  # fmt: skip
    rows = [
        [
            name,
            percent(one["parent_accuracy"]),
            percent(one["parent_accuracy_not_source"]),
            *(cell(one[f"depth_{kind}_error"], 1) for kind in ("absolute", "signed")),
            *(cell(one[f"virality_{kind}_error"], 2) for kind in ("absolute", "signed")),
        ]
        for name, one in result["rules"].items()
    ]
    released, network, choices = result["released"], result["network"], result["accuracy_by_choice_of_parent"]
    before, after = network["right_before_among_moved"], network["right_after_among_moved"]
    return (
        table(head, rows)
        + f"\n{result['cascades']:,} cascades, {result['events_with_parent']:,} events with a parent, "
        f"{result['events_whose_parent_is_the_source']:,} of them the source. Released depth "
        f"{cell(released['depth'], 2)}, virality {cell(released['virality'], 2)}. Sampled rules: means over "
        f"{result['draws']} draws. NETINF: {network['edges']:,} edges, rate {network['rate_per_minute']:.2g} "
        f"a minute; they moved {network['events_moved']:,} events, of which {before:,} were right before and "
        f"{after:,} after ({network['from_the_source_among_moved']:,} by the star).\n\n"
        + table(["repair", "count"], [[name, f"{count:,}"] for name, count in result["repairs"].items()])
        + "\n"
        + table(
            ["of several parents", *next(iter(choices.values()))],
            [[name, *(f"{share:.2%}" for share in one.values())] for name, one in choices.items()],
        )
    )


def trace_twitter15_labels(result: Result) -> str:
    """Labels compared by each test, for each way to have parents."""

    def p_of(value: float | None) -> str:
        return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"

    def inside(found: Result) -> list[str]:
        if found["p"] is None:
            return [found["reason"], "-"]
        rate = found["delta"]
        return [f"{rate['value']:.2f} ({rate['low']:.2f} to {rate['high']:.2f})", p_of(found["holm"])]

    def row_of(found: Result) -> list[str]:
        names = [found["measure"], f"{found['first']} over {found['second']}"]
        if found["reason"]:
            return [*names, found["reason"], *["-"] * 6]
        ranks = [p_of(found["weighted_p"]), p_of(found["ranks_p"]), f"{found['delta']['value']:.2f}"]
        return [*names, *ranks, *inside(found["matched"]), *inside(found["binned"])]

    rules = result["rules"]
    names = ["size", "depth", "breadth", "virality", "out_degree"]
    medians = [
        [f"{rule}, {label}", f"{row['cascades']}", *(f"{row[name]:.4g}" for name in names)]
        for rule, one in rules.items()
        for label, row in one["medians"].items()
    ]
    head = ["measure", "compared", "published p", "p, one row a cascade", "delta", "delta at one size",
            "p (Holm)", "delta in bins of size", "p (Holm)"]  # fmt: skip
    tests = list(rules["released"]["counts"])
    counted = [[name, *(str(one["counts"][name]) for one in rules.values())] for name in tests]
    fitted = [[rule, *_estimates(one["estimates"])] for rule, one in rules.items()]
    return "\n".join(
        [
            table(["medians by parents and label", "cascades", *names], medians),
            table(head, [row_of(found) for found in rules["released"]["comparisons"]]),
            table(["comparisons with p < 0.05", *rules], counted),
            table(
                [
                    "complete tree at p = 0.05, by parents", "within reach", "h identified",
                    "published h, 5 % to 95 %", "its rank correlation with size", "its error (median)",
                    "error of the closed form",
                ],
                fitted,
            ),
        ]
    )  # fmt: skip


def _estimates(fitted: Result) -> list[str]:
    """What the model of complete trees makes of the cascades."""
    low, high = fitted["h as published, 5 % to 95 %"]
    found = next(one for one in fitted["by_share"] if one["p"] == 0.05)
    return [
        f"{found['reachable']:,}",
        f"{found['identified']:,}",
        f"{low:.2f} to {high:.2f}",
        f"{fitted['spearman_of_h_and_size']:.3f}",
        f"{fitted['error_as_published']:.2f}",
        f"{fitted['error_of_the_closed_form']:.2f}",
    ]


def trace_netinf(result: Result) -> str:
    """Time and memory of NETINF."""
    rows = [
        ["cascades", f"{result['cascades']:,}"],
        ["mean and largest size", f"{result['mean_size']:.2f}, {result['largest']:,}"],
        ["nodes", f"{result['nodes']:,}"],
        ["pairs of events", f"{result['pairs_of_events']:,}"],
        [
            "edges found, of those that are there",
            f"{result['edges_found']:,}, {result['edges_of_network']:,}",
        ],
        ["precision, recall of edges", f"{result['edge_precision']:.5f}, {result['edge_recall']:.3f}"],
        ["seconds (target 600)", f"{result['seconds']:.1f}"],
        ["peak GB (target 8)", f"{result['peak_gb']:.2f}"],
    ]
    return table(["NETINF", ""], rows)


def trace_scale(result: Result) -> str:
    """From log to report at several sizes, and the peer where it was run."""
    rows = []
    for one in result["sizes"]:
        stages = one["stages"]
        rest = sum(stages[name] for name in ("events", "reconstruct", "export"))
        rows.append(
            [
                f"{one['messages']:,}",
                f"{one['seconds']:.0f}",
                *(f"{stages[name]:.0f}" for name in ("read", "clean", "link")),
                f"{rest:.0f}",
                f"{stages['study']:.0f}",
                f"{one['peak_gb']:.1f}",
                f"{one['long_precision']:.4f}, {one['long_recall']:.4f}",
                f"{one['short_precision']:.4f}, {one['short_recall']:.3f}",
            ]
        )
    head = ["messages", "seconds", "read", "clean", "link", "cascades", "study", "peak GB"]
    shown = table([*head, "precision, recall", "same, short texts"], rows)
    for one in result["sizes"]:
        if "peer" in one:
            peer, faster = one["peer"], one["times faster than the peer"]
            name = f"datasketch's MinHashLSH (128 permutations, threshold {peer['threshold']}) with networkx"
            shown += (
                f"\n{name} on the same {one['messages']:,} messages in the same run: "
                f"{peer['seconds']:.0f} s for linking, precision {peer['long_precision']:.4f} and recall "
                f"{peer['long_recall']:.4f} ({peer['short_recall']:.3f} with short texts). Linking is "
                f"{faster['linking']:.1f} times faster here, and the whole run from log to report "
                f"{faster['whole run']:.1f} times.\n"
            )
    return shown


TABLES: dict[str, Callable[[Result], str]] = {
    "speed_prompts": speed_prompts,
    "memory": memory,
    "speed_skills": speed_skills,
    "speed_judges": speed_judges,
    "speed_spark": speed_spark,
    "startup": startup,
    "trace_netinf": trace_netinf,
    "trace_scale": trace_scale,
    "trace_twitter15": trace_twitter15,
    "trace_twitter15_labels": trace_twitter15_labels,
    "accuracy-harmfulness": accuracy,
    "accuracy-latent-guard": accuracy,
    "accuracy-surface": accuracy,
    "accuracy-biopsy": biopsy,
    "accuracy-policy-embedded": policy_embedded,
}


def result_file(name: str) -> Path:
    """The file of a result; accuracy is that of the profile that ships."""
    detector = name.removeprefix("accuracy-")
    manifest = profiles_folder() / detector / "profile.json"
    if detector != name and manifest.is_file():
        return RESULTS / f"{name}-{json.loads(manifest.read_text('utf-8'))['hash']}.json"
    return RESULTS / f"{name}.json"


def filled(page: str) -> str:
    """The page with every table made anew."""

    def make(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        path = result_file(name)
        if not path.is_file():
            return f"{start}{MISSING}{end}"
        result = json.loads(path.read_text("utf-8"))
        return f"{start}{TABLES[name](result)}{made_by(result)}{end}"

    return MARKED.sub(make, page)


SHIPPED_RATES = profiles_folder() / "measured.json"
PROMPT_RATES = {
    "alpaca": "everyday prompts flagged",
    "xstest_safe": "harmless prompts with alarming words flagged",
    "xstest_unsafe": "their harmful contrasts flagged",
}


def _refusal_rates(name: str, confusion: Result) -> list[Result]:
    """Shares flagged of the replies that people call answers, and of those they call refusals."""
    rows: list[Result] = []
    for measure, said in (("answers flagged", ("none",)), ("refusals flagged", ("full", "partial"))):
        judged = [
            (word != "none", count)
            for key, count in confusion.items()
            for human, _, word in [key.partition(" as ")]
            if human in said and word != "abstained"
        ]
        rate = wilson(sum(count for hit, count in judged if hit), sum(count for _, count in judged))
        rows.append(
            {
                "detector": name,
                "measure": measure,
                "data": "xstest completions",
                **{key: getattr(rate, key) for key in ("value", "low", "high", "n")},
            }
        )
    return rows


def shipped_rates() -> str:
    """The rates that a scan's report shows for the shipped profiles, by profile hash, as JSON."""
    found: dict[str, list[Result]] = {}
    for path in sorted(RESULTS.glob("accuracy-*.json")):
        result = json.loads(path.read_text("utf-8"))
        identity = result["detector"]
        if identity["profile"] is None:
            continue
        rates = [(PROMPT_RATES[name], name, result["sets"][name]["flagged"]) for name in PROMPT_RATES]
        if "held_back_skills" in result:
            own = result["held_back_skills"]["skills"]
            reputable = result["skills"]["reputable"]["flagged"]
            rates = [
                ("skills of reputable publishers flagged", "public skills", reputable),
                ("harmful purposes flagged", "own held-back skills", own["harmful"]["flagged"]),
                ("their harmless twins flagged", "own held-back skills", own["harmless"]["flagged"]),
            ]
        found[identity["profile"]] = [
            {
                "detector": identity["detector"],
                "measure": measure,
                "data": data.replace("_", " "),
                **{key: rate[key] for key in ("value", "low", "high", "n")},
            }
            for measure, data, rate in rates
        ]
    result = json.loads((RESULTS / "refusal.json").read_text("utf-8"))
    for name, figures in result["judges"].items():
        if figures.get("profile") is not None:
            found[figures["profile"]] = _refusal_rates(name, figures["confusion"])
    return json.dumps(found, indent=1) + "\n"


def main() -> int:
    """Write the pages and the shipped rates, or compare them."""
    parser = argparse.ArgumentParser(description="Fill the tables of the pages.")
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    asked = parser.parse_args()
    outdated = 0
    if SHIPPED_RATES.read_text("utf-8") != shipped_rates():
        outdated += 1
        print(f"{SHIPPED_RATES.name} {'is out of date' if asked.check else 'written'}")
        if not asked.check:
            SHIPPED_RATES.write_text(shipped_rates(), "utf-8")
    for path in sorted(PAGES.rglob("*.md")):
        page = path.read_text("utf-8")
        made = filled(page)
        if made != page:
            outdated += 1
            print(f"{path.relative_to(ROOT)} {'is out of date' if asked.check else 'written'}")
            if not asked.check:
                path.write_text(made, "utf-8")
    return int(asked.check and outdated > 0)


if __name__ == "__main__":
    sys.exit(main())
