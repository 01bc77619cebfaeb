"""`judges train`: a classifier of responses, trained into a local model with soft labels."""

from __future__ import annotations

from pathlib import Path

from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.white_box import open_white_box
from tocsin.core.errors import UsageError
from tocsin.core.registry import DetectorContext
from tocsin.judges.classifier import ClassifierSettings, Trained, read_labelled, train_classifier
from tocsin.judges.classifier.adapter import check_extra, check_folder


def train_judge(
    data: Path | str,
    *,
    out: Path | str,
    model: str = "embedded",
    settings: ClassifierSettings | None = None,
    held_out: float = 0.2,
    calibrate: bool = False,
    offline: bool = False,
    device: str | None = None,
    progress: ProgressCallback = no_progress,
) -> Trained:
    """Train HarmClassifier (arXiv 2509.24384): an adapter with which a local model judges responses.

    What can be checked is checked before a model is loaded. Nothing is written until the training is done,
    and the model's own weights are neither changed nor written.

    Args:
        data: JSON lines of labelled responses; see `tocsin.judges.classifier.data` for the columns.
        out: Folder of the adapter: new, empty, or an old adapter's, which is replaced.
        model: `embedded`, the path of a model folder or GGUF file, `hub:org/name`, or a testbed's name.
        settings: How it is trained; the published values when None.
        held_out: About which share of the items is kept for the test, as whole topics, unless the data say
            it by `split`; 0 for none.
        calibrate: Take the threshold that balances errors on the training items, instead of 0.5.
        offline: Never fetch anything.
        device: Where the model runs.
        progress: Told how far it has come.

    Returns:
        The adapter's manifest, with figures on held-out items before and after the training, and its folder.

    Raises:
        UsageError: If the share makes no sense, or the model is none that can be trained on.
        InputError: If the data cannot be used; names lines and ids, never text.
        ProfileError: If `out` holds something else, or cannot be written.
        FitError: If a class has too few items.
        ModelError: If the model is missing, damaged or unsupported.
        MissingExtraError: If the extra `train` or `judges` is needed and not installed.
    """
    if not 0 <= held_out < 1:
        message = f"expected a share from 0 to less than 1 to hold out, got {held_out}. Use 0.2, say."
        raise UsageError(message)
    folder = Path(out)
    check_extra()
    check_folder(folder)
    labelled = read_labelled(data)
    progress(Progress("loading", 0, None, model))
    loaded, _ = open_white_box(model, DetectorContext(model=model, offline=offline, device=device))
    return train_classifier(
        loaded,
        labelled,
        folder,
        settings or ClassifierSettings(),
        held_out=held_out,
        calibrate=calibrate,
        progress=lambda what, done, total: progress(Progress("training", done, total, what)),
    )
