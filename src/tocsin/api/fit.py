"""`fit`: teach a detector from files and keep what it learned as a profile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.evaluate import label_text
from tocsin.core.errors import FitError, InputError, ProfileError, UsageError
from tocsin.core.records import Item, Kind, Record
from tocsin.core.registry import DetectorContext, DetectorInfo, create, is_fittable, lookup
from tocsin.detect.profile import MANIFEST
from tocsin.sources import Limits, open_source

HARMFUL, HARMLESS = "harmful", "harmless"
"""The labels a training file must use when no positive label is named."""


class FitResult(Record):
    """What was fitted, on what, and where it is kept."""

    detector: str
    model: str
    profile: str
    """Folder of the profile."""
    n_harmless: int
    """Readable harmless items it was given; it may leave out more, such as other languages."""
    n_harmful: int
    unreadable: dict[str, int]
    """Rows that could not be read, by reason."""
    notes: tuple[str, ...] = ()
    identity: dict[str, JsonValue]
    """What the fitted detector says of itself: profile hash, threshold, settings."""

    def to_json(self) -> str:
        """Indented JSON in pure ASCII, every key present."""
        return self.model_dump_json(indent=2, ensure_ascii=True)


def fit(
    detector: str,
    *,
    harmless: Path | str | None = None,
    harmful: Path | str | None = None,
    train: Path | str | None = None,
    text: str | None = None,
    prompt: str | None = None,
    label: str | None = None,
    positive: Sequence[str] | None = None,
    group: str | None = None,
    category: str | None = None,
    profile: Path | str,
    model: str = "embedded",
    as_kind: Kind | None = None,
    deep: bool = False,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    options: Mapping[str, JsonValue] | None = None,
    seed: int = 0,
    limits: Limits | None = None,
) -> FitResult:
    """Fit a detector and write its profile. What can be checked is checked before a model is loaded.

    Items come from two files (`harmless`, and `harmful` unless the detector is one-class), or from one
    labelled file (`train`). A one-class detector leaves the positive rows of a labelled file out.

    Args:
        detector: Name of a detector that can be fitted.
        harmless: File or folder of harmless items.
        harmful: File or folder of harmful items.
        train: File with a label column, instead of the two.
        text: Column of the text; found by well-known names when None.
        prompt: Column of the request that `text` answers.
        label: Column of the labels of `train`.
        positive: Labels of harmful rows, compared as strings; when None, all labels of `train` must be
            `harmful` or `harmless`.
        group: Column whose equal values mark twins, which cross-fitting keeps together.
        category: Column of taxonomy ids, for detectors that learn categories.
        profile: Folder to write: new, empty, or a profile of the same detector, which is replaced.
        model: As for `--model`.
        as_kind: Kind of the rows, where the reader would choose another.
        deep: Whether detectors read the bodies of skills.
        offline: Forbids every fetch.
        device: For local models.
        batch_size: For local models.
        options: Detector options by detector name.
        seed: Of everything random.
        limits: Bounds of reading.

    Raises:
        UsageError: If options exclude each other, or the detector is unknown or is not fitted.
        InputError: If a file cannot be read, or labels are missing or unknown.
        ProfileError: If `profile` is a file, or a folder that holds something else.
        FitError: If a side has no readable item, or the detector cannot be fitted on these.
    """
    info = lookup(detector).info
    folder = Path(profile)
    _check_options(info, harmless, harmful, train, label, positive)
    _check_folder(folder, detector)

    def read(path: Path | str) -> Iterable[Item]:
        source = open_source(
            path,
            text=text,
            prompt=prompt,
            label=label,
            group=group,
            keep=() if category is None else (category,),
            as_kind=as_kind,
            limits=limits or Limits(),
        )
        return source.items()

    if train is not None and label is not None:
        sides, notes = _labelled(read(train), train, label, positive), []
        if HARMFUL not in info.fits_on and sides[True]:
            notes.append(
                f"{detector} is one-class: {len(sides[True])} rows with a positive label were left out"
            )
            sides[True] = []
    else:
        sides = {False: list(read(harmless)) if harmless is not None else [], True: []}
        sides[True] = list(read(harmful)) if harmful is not None else []
        notes = []
    unreadable = Counter(
        item.problem.reason.value for side in sides.values() for item in side if item.problem
    )
    ready = {
        side: [_marked(item, group, category) for item in sides[side] if item.problem is None]
        for side in sides
    }
    for side, name in ((False, HARMLESS), (True, HARMFUL)):
        if name in info.fits_on and not ready[side]:
            message = f"expected {name} items to fit {detector} on, got none that can be read."
            raise FitError(message)
    notes += _overlap(ready[False], ready[True])
    context = DetectorContext(
        model=model,
        deep=deep,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
        options=options or {},
    )
    built = create(detector, context)
    if not is_fittable(built):
        message = (
            f"'{detector}' is registered as one that is fitted, but cannot be. Tell the plug-in's authors."
        )
        raise UsageError(message)
    built.fit(ready[False], ready[True] or None)
    built.save(folder)
    return FitResult(
        detector=detector,
        model=model,
        profile=str(folder),
        n_harmless=len(ready[False]),
        n_harmful=len(ready[True]),
        unreadable=dict(sorted(unreadable.items())),
        notes=tuple(notes),
        identity=dict(built.identity),
    )


def _check_options(
    info: DetectorInfo,
    harmless: Path | str | None,
    harmful: Path | str | None,
    train: Path | str | None,
    label: str | None,
    positive: Sequence[str] | None,
) -> None:
    message = ""
    if not info.fits_on:
        message = f"'{info.name}' is not fitted on data. `tocsin detectors` lists those that are."
    elif (train is None) == (harmless is None):
        message = "expected either --harmless or --train, got both or neither. Give one of them."
    elif train is not None and harmful is not None:
        message = "expected --train alone, got --harmful as well. Mark harmful rows by their label."
    elif train is not None and label is None:
        message = "expected the column of labels beside --train, got none. Name it: --label."
    elif train is None and (label is not None or positive):
        message = "expected --label and --positive beside --train only, got them without. Leave them out."
    elif harmful is not None and HARMFUL not in info.fits_on:
        message = f"'{info.name}' is one-class: it is fitted on harmless items only. Leave --harmful out."
    elif train is None and harmful is None and HARMFUL in info.fits_on:
        message = f"'{info.name}' is fitted on both sides, got harmless items only. Give --harmful too."
    elif harmful is not None and harmless is not None and str(harmful) == str(harmless):
        message = "expected two different files, got the same one as --harmless and --harmful."
    if message:
        raise UsageError(message)


def _check_folder(folder: Path, detector: str) -> None:
    """Refuse a place that must not be written, before any work is done."""
    if folder.exists() and not folder.is_dir():
        message = "expected a folder for the profile, got a file. Choose another place: --profile."
        raise ProfileError(message, path=folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or "detector" not in manifest:
        message = (
            "expected a new or empty folder or an old profile, got a folder with other files. Choose another."
        )
        raise ProfileError(message, path=folder)
    if manifest["detector"] != detector:
        message = f"expected a profile of '{detector}', got another detector's. Choose another folder."
        raise ProfileError(message, path=folder)


def _labelled(
    items: Iterable[Item], path: Path | str, column: str, positive: Sequence[str] | None
) -> dict[bool, list[Item]]:
    """Rows by side. Rows without a label that could be read are refused: they may be of either side."""
    wanted = {HARMFUL} if positive is None else {value.strip() for value in positive}
    known = {HARMFUL, HARMLESS} if positive is None else None
    sides: dict[bool, list[Item]] = {False: [], True: []}
    seen: set[str | None] = set()
    for item in items:
        found = label_text(item.metadata.get(column))
        if found is None and item.problem is None:
            message = f"expected a label in '{column}', got none. Add it or remove the row."
            raise InputError(message, path=path, line=item.origin.line)
        if known is not None and found is not None and found not in known:
            message = (
                f"expected '{HARMFUL}' or '{HARMLESS}' in '{column}', got another label. "
                "Name the labels of harmful rows: --positive."
            )
            raise InputError(message, path=path, line=item.origin.line)
        seen.add(found)
        sides[found in wanted].append(item)
    absent = sorted(wanted - seen) if positive is not None else []
    if absent:
        # Rows of a misspelt label would be learned as harmless, and a one-class detector would not notice.
        message = f"expected rows whose '{column}' is '{absent[0]}', got none. Check --label and --positive."
        raise InputError(message, path=path)
    return sides


def _marked(item: Item, group: str | None, category: str | None) -> Item:
    """The item with its group and category under the keys by which detectors look for them."""
    wanted = {"pair": group, "category": category}
    found = {
        key: value
        for key, column in wanted.items()
        if column is not None and (value := label_text(item.metadata.get(column))) is not None
    }
    return item.model_copy(update={"metadata": item.metadata | found}) if found else item


def _overlap(harmless: Sequence[Item], harmful: Sequence[Item]) -> list[str]:
    shared = {item.content_hash for item in harmless} & {item.content_hash for item in harmful}
    return [f"{len(shared)} texts stand on both sides; they teach nothing"] if shared else []
