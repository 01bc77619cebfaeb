"""Ground floor: records, taxonomy, registry, errors, run folders, cache and statistics. Nothing of ours above."""
