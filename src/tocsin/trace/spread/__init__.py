"""The study of a traced log: shapes under every rule, comparisons, estimates, and what may be exported."""
