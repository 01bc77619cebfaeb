"""`scan --engine spark`: the driver, its cluster and the workers."""
