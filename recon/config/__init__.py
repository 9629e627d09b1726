"""The configuration: what it may hold, the objects that it describes, and that of a run that is there already."""
