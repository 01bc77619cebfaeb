"""The complete cascade behind one of which a share p of the groups is seen."""
