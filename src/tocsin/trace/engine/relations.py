"""Cleaning, label spread and cascade events as relational expressions, the same for every engine.

Rules follow the public code of arXiv 2505.18099 (Liu, Rahimian and Garimella).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis

CLEANING = ("empty", "short", "greeting", "ciphertext")
GREETINGS = ("ok", "ok ok", "thanks", "hello")
MIN_LENGTH = 10
UNLABELLED = "other"


def cleaning_rules(messages: ibis.Table) -> dict[str, ibis.expr.types.BooleanValue]:
    """For each rule of `CLEANING`, in order, whether it drops a row.

    The public code drops media rows without a caption together with other incomplete rows. Here a media
    row needs a caption or a media hash.
    """
    text = messages.text.fill_null("").strip()
    is_chat = messages.modality == "chat"
    return {
        "empty": (text == "") & (is_chat | messages.media.isnull()),
        "short": is_chat & (messages.text.fill_null("").length() <= MIN_LENGTH),
        "greeting": is_chat & text.lower().isin(GREETINGS),
        "ciphertext": messages.modality == "ciphertext",
    }


def cleaned(messages: ibis.Table, rules: tuple[str, ...]) -> ibis.Table:
    """The rows that no rule of `rules` drops, in the order of the log."""
    tests = cleaning_rules(messages)
    kept = messages
    for rule in rules:
        kept = kept.filter(~tests[rule])
    return kept.order_by("row")


def dropped_counts(messages: ibis.Table, rules: tuple[str, ...]) -> ibis.Table:
    """One row: for each rule, the rows that it drops and no earlier rule does."""
    import ibis

    tests = cleaning_rules(messages)
    still = ibis.literal(value=True)
    counts = {}
    for rule in rules:
        counts[rule] = (still & tests[rule]).ifelse(1, 0).sum()
        still = still & ~tests[rule]
    counts["kept"] = still.ifelse(1, 0).sum()
    return messages.aggregate(**counts)


def _linked(messages: ibis.Table, links: ibis.Table) -> ibis.Table:
    return messages.join(links, "row")


def _earliest(linked: ibis.Table) -> ibis.Table:
    """The first message of every item by time; of several at one time, the first row of the log."""
    begun = linked.group_by("item").aggregate(time=lambda t: t.time.min())
    tied = linked.join(begun, ["item", "time"])
    rows = tied.group_by("item").aggregate(row=lambda t: t.row.min())
    return rows.join(linked.drop("item"), "row")


def events(messages: ibis.Table, links: ibis.Table) -> ibis.Table:
    """`cascade, node, time`: the earliest message per item and group; items of one group are dropped.

    Sorted by cascade, time, node.
    """
    first = _linked(messages, links).group_by("item", "group_key").aggregate(time=lambda t: t.time.min())
    sizes = first.group_by("item").aggregate(size=lambda t: t.count())
    spread = first.join(sizes.filter(sizes.size >= 2), "item")
    chosen = spread.select(cascade=spread.item, node=spread.group_key, time=spread.time)
    return chosen.order_by("cascade", "time", "node")


def attributes(messages: ibis.Table, links: ibis.Table) -> ibis.Table:
    """`cascade, label, modality, forwarding_max, size, messages`, sorted by cascade.

    An item takes the label of its earliest labelled message; without one it is "other". Sizes count groups.
    """
    linked = _linked(messages, links)
    per_item = linked.group_by("item").aggregate(
        modality=lambda t: t.modality.min(),
        forwarding_max=lambda t: t.forwarding.max(),
        size=lambda t: t.group_key.nunique(),
        messages=lambda t: t.count(),
    )
    labelled = linked.filter(linked.label.notnull() & (linked.label != UNLABELLED))
    first = _earliest(labelled).select("item", "label")
    joined = per_item.filter(per_item.size >= 2).left_join(first, "item")
    return joined.select(
        cascade=joined.item,
        label=joined.label.fill_null(UNLABELLED),
        modality=joined.modality,
        forwarding_max=joined.forwarding_max,
        size=joined.size,
        messages=joined.messages,
    ).order_by("cascade")


def shared_members(messages: ibis.Table) -> ibis.Table:
    """`first, second, members`: how many people wrote in both groups of each pair."""
    here = messages.select("group_key", "author_key").distinct()
    there = here.view()
    pairs = here.join(there, [here.author_key == there.author_key, here.group_key < there.group_key])
    pairs = pairs.select(first=here.group_key, second=there.group_key)
    return (
        pairs.group_by("first", "second").aggregate(members=lambda t: t.count()).order_by("first", "second")
    )


def first_texts(messages: ibis.Table, links: ibis.Table) -> ibis.Table:
    """`cascade, text`: the earliest text of every item that was seen in two groups or more, in order."""
    linked = _linked(messages, links)
    spread = linked.group_by("item").aggregate(size=lambda t: t.group_key.nunique())
    written = linked.filter(linked.text.notnull() & (linked.text != ""))
    chosen = _earliest(written).join(spread.filter(spread.size >= 2), "item")
    return chosen.select(cascade=chosen.item, text=chosen.text).order_by("cascade")
