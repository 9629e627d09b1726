"""The tasks, one file each with its YAML in conf/task."""
