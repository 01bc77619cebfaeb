"""Ground floor: records, taxonomy, registry, errors, run folders, cache, statistics."""
