"""Studies of what happens inside a model: directions, mediation, weights, and audits of suspect models."""
