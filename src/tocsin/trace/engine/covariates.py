"""What a regression of shape needs to know of each cascade beside its label and counter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.trace.engine.relations import UNLABELLED

if TYPE_CHECKING:
    import ibis


def covariates(messages: ibis.Table, links: ibis.Table) -> ibis.Table:
    """`cascade, group_activity, author_activity, labels, modalities`, sorted by cascade.

    As in the public code of arXiv 2505.18099, activity is the number of messages of the log in the group, or
    of the author, of an event, averaged over the events of a cascade; an event is the earliest message of a
    cascade in a group. `labels` counts the distinct labels other than "other", `modalities` the modalities: a
    cascade with more than one of either is mixed.
    """
    linked = messages.join(links, "row")
    kinds = linked.group_by("item").aggregate(
        labels=lambda t: t.label.nunique(where=t.label.notnull() & (t.label != UNLABELLED)),
        modalities=lambda t: t.modality.nunique(),
    )
    begun = linked.group_by("item", "group_key").aggregate(time=lambda t: t.time.min())
    at_first = linked.join(begun, ["item", "group_key", "time"])
    rows = at_first.group_by("item", "group_key").aggregate(row=lambda t: t.row.min())
    events = rows.join(messages.select("row", "author_key"), "row").select("item", "group_key", "author_key")
    in_group = messages.group_by("group_key").aggregate(in_group=lambda t: t.count())
    by_author = messages.group_by("author_key").aggregate(by_author=lambda t: t.count())
    counted = events.join(in_group, "group_key").join(by_author, "author_key")
    activity = counted.group_by("item").aggregate(
        group_activity=lambda t: t.in_group.mean(),
        author_activity=lambda t: t.by_author.mean(),
        size=lambda t: t.count(),
    )
    joined = activity.filter(activity["size"] >= 2).join(kinds, "item")
    return joined.select(
        cascade=joined.item,
        group_activity=joined.group_activity,
        author_activity=joined.author_activity,
        labels=joined.labels,
        modalities=joined.modalities,
    ).order_by("cascade")
