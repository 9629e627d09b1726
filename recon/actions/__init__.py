"""What a run does; each action is one file here and one in `conf/action/`."""
