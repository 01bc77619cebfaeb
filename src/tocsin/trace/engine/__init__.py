"""The relational steps, as Ibis expressions that DuckDB or Spark runs."""
