"""Writes the harmless labelled responses that the classifier is shown to learn from.

python scripts/classifier_example.py labelled.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tocsin.judges.classifier.generated import MAX_TOPICS, generated_judgements


def main(target: Path, n_topics: int = MAX_TOPICS) -> None:
    """One JSON object a line, ten for each topic."""
    rows = generated_judgements(n_topics)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(f"{len(rows)} labelled responses in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
