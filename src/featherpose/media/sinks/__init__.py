"""Writers of annotated video."""
