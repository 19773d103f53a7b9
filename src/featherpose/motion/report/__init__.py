"""The report: one HTML page, plots and annotated video."""
